"""What was shown and what came of it: one row an item of a list, with the reaction to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from matchloop.snapshot import SessionSource

if TYPE_CHECKING:
    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table


_NO = ibis.literal(value=False)


def shown_items(tables: SnapshotTables, use_case: UseCase) -> Table:
    """Return one row for each item of each list the system itself served in the use case.

    Columns: session_id, subject_id, serve_time, reranked, rank (1 is the first), size (of the list), item_id,
    recommendation_score (the final score as served), retrieval_score (the method's own, null where it was not
    logged), method, has_features, features (the logged ones, in the
    order of `use_case.ranking.features`; meaningless unless has_features: lists that logged others, or none,
    have false there).
    """
    names = list(use_case.ranking.features)
    lists = tables.sessions.filter(
        tables.sessions.use_case == use_case.id, tables.sessions.source == SessionSource.RANKING.value
    )
    numbered = lists.mutate(
        size=lists.item_ids.length(),
        has_features=(lists.feature_names.join(",") == ",".join(names))
        & (lists.feature_values.length() == lists.item_ids.length() * len(names)),
        place=ibis.range(0, lists.item_ids.length()).unnest(),
    )
    place = numbered.place
    return numbered.select(
        "session_id",
        "subject_id",
        "serve_time",
        "reranked",
        "size",
        "has_features",
        rank=place + 1,
        item_id=numbered.item_ids[place],
        recommendation_score=numbered.scores[place],
        retrieval_score=numbered.retrieval_scores[place],
        method=numbered.methods[place],
        features=features_at(numbered.feature_values, place, use_case),
    )


def features_at(values: Any, place: Any, use_case: UseCase) -> Any:
    """Return what was logged of the item at a place, 0 the first, out of a list's `feature_values`."""
    width = len(use_case.ranking.features)
    return values[place * width : (place + 1) * width]


def shown_pairs(tables: SnapshotTables, use_case: UseCase) -> Table:
    """Return subject_id and item_id of what stood in a list, the client's own lists too, each time it did."""
    lists = tables.sessions.filter(tables.sessions.use_case == use_case.id)
    return lists.select("subject_id", item_id=lists.item_ids.unnest())


def last_moment(tables: SnapshotTables, config: DatasetConfig) -> Any:
    """Return the latest serve time of lists that have had the attribution window to be reacted to."""
    return ibis.literal(tables.taken) - ibis.interval(seconds=int(config.attribution_minutes * 60))


def verdicts(tables: SnapshotTables, use_case: UseCase) -> Table:
    """Return what each subject last said of an item: of_subject, of_item, liked, rejected_at.

    Only pairs with a strong event or a dislike stand there. The later of the two holds, a dislike when they
    are of the same moment: `liked` is true, or `rejected_at` the time of the latest dislike, else null.
    """
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id,
        tables.interactions.event_type.isin([*use_case.strong_events, use_case.dislike_event]),
    )
    dislikes = tables.dislikes.filter(tables.dislikes.use_case == use_case.id)
    said = events.select(
        "subject_id", "item_id", "event_time", rejects=events.event_type == use_case.dislike_event
    ).union(dislikes.select("subject_id", "item_id", "event_time", rejects=ibis.literal(value=True)))
    last = said.group_by(of_subject=said.subject_id, of_item=said.item_id).aggregate(
        liked_at=said.event_time.max(where=~said.rejects), rejected_at=said.event_time.max(where=said.rejects)
    )
    liked = (last.liked_at.notnull() & last.rejected_at.isnull()) | (
        last.liked_at > last.rejected_at
    ).fill_null(_NO)
    return last.select(
        "of_subject",
        "of_item",
        liked=liked,
        rejected_at=liked.ifelse(ibis.null(last.rejected_at.type()), last.rejected_at),
    )


def _is_one_of(kind: Any, names: list[str]) -> Any:
    """Return whether each event is one of these; of none where a use case declares none."""
    return kind.isin(names) if names else kind.isnull()


def with_outcome(shown: Table, tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> Table:
    """Add what came of each item shown as `outcome`, and as `reacted` whether a click or the like did.

    =========== ===========================================================================================
    positive    a strong event came from this list, and no later dislike of the subject's takes it back
    disliked    rejected from this list, or by the subject at any time after the list was served
    viewed      nothing but a view came from this list
    hard        shown with a high score and not strongly reacted to, nor just viewed
    reacted     shown with a low score, with a reaction of positive weight that is neither strong nor a view
    ignored     shown with a low score, without any reaction
    young       would be viewed or hard, but the list is younger than the attribution window
    =========== ===========================================================================================
    """
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id, tables.interactions.session_id.notnull()
    )
    kind = events.event_type
    weak = [n for n, e in use_case.events.items() if e.weight > 0 and not e.strong and not e.view]
    reacted = events.group_by(by_session=events.session_id, by_item=events.item_id).aggregate(
        strong=_is_one_of(kind, sorted(use_case.strong_events)).any(),
        rejected=(kind == use_case.dislike_event).any(),
        weak=_is_one_of(kind, weak).any(),
        viewed=_is_one_of(kind, sorted(use_case.view_events)).any(),
    )
    said = verdicts(tables, use_case)
    joined = shown.left_join(
        reacted, (shown.session_id == reacted.by_session) & (shown.item_id == reacted.by_item)
    )
    joined = joined.left_join(said, (joined.subject_id == said.of_subject) & (joined.item_id == said.of_item))
    strong, rejected, weakly, viewed = (
        joined[name].fill_null(_NO) for name in ("strong", "rejected", "weak", "viewed")
    )
    high = (joined.recommendation_score > config.hard_score) | (
        joined["rank"] <= joined.size * config.hard_share
    )
    late = rejected | (joined.rejected_at >= joined.serve_time).fill_null(_NO)
    outcome = ibis.cases(
        (joined.rejected_at.notnull() & late, "disliked"),
        (strong & joined.rejected_at.isnull(), "positive"),
        (strong, "ignored"),
        (weakly & ~high, "reacted"),
        (~viewed & ~high, "ignored"),
        (joined.serve_time > last_moment(tables, config), "young"),
        (viewed & ~weakly, "viewed"),
        else_="hard",
    )
    return joined.select(*shown.columns, outcome=outcome, reacted=weakly)
