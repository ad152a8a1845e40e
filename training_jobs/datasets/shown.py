"""What was shown and what came of it: one row an item of a list, with the reaction to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    recommendation_score (the final score as served), method, has_features, features (the logged ones, in the
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
        method=numbered.methods[place],
        features=numbered.feature_values[place * len(names) : (place + 1) * len(names)],
    )


def with_outcome(shown: Table, tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> Table:
    """Add what came of each item shown, as `outcome`.

    =========== ===========================================================================================
    positive    a strong event came from this list
    disliked    rejected from this list, or by the subject at any time after the list was served
    reacted     another reaction of positive weight that is no view (a click): neither positive nor negative
    viewed      viewed only
    hard        no reaction, and shown with a high score: `hard_score` or more, or in the top `hard_share`
    ignored     no reaction to an item shown with a low score
    young       no reaction yet, or only a view, but the list is younger than the attribution window
    =========== ===========================================================================================
    """
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id, tables.interactions.session_id.notnull()
    )
    kind = events.event_type
    weak = [n for n, e in use_case.events.items() if e.weight > 0 and not e.strong and not e.view]
    reacted = events.group_by(by_session=events.session_id, by_item=events.item_id).aggregate(
        strong=kind.isin(list(use_case.strong_events)).any(),
        rejected=(kind == use_case.dislike_event).any(),
        weak=kind.isin(weak).any() if weak else _NO.any(),
        viewed=kind.isin(list(use_case.view_events)).any(),
    )
    dislikes = tables.dislikes.filter(tables.dislikes.use_case == use_case.id)
    rejections = dislikes.group_by(of_subject=dislikes.subject_id, of_item=dislikes.item_id).aggregate(
        rejected_at=dislikes.event_time.max()
    )
    joined = shown.left_join(
        reacted, (shown.session_id == reacted.by_session) & (shown.item_id == reacted.by_item)
    )
    joined = joined.left_join(
        rejections, (joined.subject_id == rejections.of_subject) & (joined.item_id == rejections.of_item)
    )
    high = (joined.recommendation_score >= config.hard_score) | (
        joined.rank <= joined.size * config.hard_share
    )
    last_moment = ibis.literal(tables.taken) - ibis.interval(seconds=int(config.attribution_minutes * 60))
    outcome = ibis.cases(
        (joined.strong.fill_null(_NO), "positive"),
        (joined.rejected.fill_null(_NO), "disliked"),
        ((joined.rejected_at >= joined.serve_time).fill_null(_NO), "disliked"),
        (joined.weak.fill_null(_NO), "reacted"),
        (joined.serve_time > last_moment, "young"),
        (joined.viewed.fill_null(_NO), "viewed"),
        (high, "hard"),
        else_="ignored",
    )
    return joined.select(*shown.columns, outcome=outcome)
