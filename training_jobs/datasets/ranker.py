"""The ranker's data set: logged features of items shown, with what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np

from matchloop.errors import TooFewExamples
from matchloop.position import exposure_weight
from training_jobs.datasets.manifest import (
    DatasetManifest,
    counts_of,
    manifest_of,
    span_of,
    weights_by_rank,
)
from training_jobs.datasets.shown import features_at, shown_items, with_outcome
from training_jobs.datasets.tables import chance_of
from training_jobs.datasets.texts import Texts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.position import ExaminationCurve, Weighting
    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table

NEGATIVES = {"disliked": 1, "viewed": 2, "hard": 3}
"""Outcomes that make a negative, in the order they are preferred."""


@dataclass(frozen=True, slots=True)
class RankerDataset:
    """Examples in columns of equal length n, ordered by list, then rank.

    Parameters
    ----------
    group
        int64 (n,): number of the list, from 0 in order of serving.
    features
        float32 (n, F), exactly as logged when the list was served; columns in `feature_names` order.
    label
        float32 (n,): 1 strong positive, 0 negative.
    exposure_weight
        float32 (n,): what the rank makes it worth.
    original_score
        The teacher's, float32 (n,), as logged.
    retrieval_score
        What the method itself gave, float32 (n,); NaN where that was not logged.
    """

    subject: NDArray[np.object_]
    item: NDArray[np.object_]
    group: NDArray[np.int64]
    serve_time: NDArray[np.datetime64]
    rank: NDArray[np.int32]
    recommendation_score: NDArray[np.float32]
    original_score: NDArray[np.float32]
    retrieval_score: NDArray[np.float32]
    features: NDArray[np.float32]
    method: NDArray[np.object_]
    exposure_weight: NDArray[np.float32]
    label: NDArray[np.float32]
    source: NDArray[np.object_]
    feature_names: tuple[str, ...]
    manifest: DatasetManifest

    def __len__(self) -> int:
        return len(self.label)

    @property
    def positives(self) -> int:
        """How many strong positives."""
        return int(self.label.sum())

    def require(self, least: int) -> None:
        """Raise TooFewExamples, with the counts, when there are fewer than `least` strong positives."""
        if self.positives < least or self.positives == len(self):
            raise TooFewExamples(
                f"ranker: {self.positives} strong positives and {len(self) - self.positives} negatives "
                f"in {len(np.unique(self.group))} lists; {least} positives and some negatives are needed"
            )

    def write(self, folder: Path) -> Path:
        """Write ``ranker.parquet`` (a column a feature) and ``ranker.json`` into `folder`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.manifest.write(folder)
        columns: dict[str, Any] = {
            "subject": self.subject,
            "item": self.item,
            "list": self.group,
            "serve_time": self.serve_time,
            "rank": self.rank,
            "recommendation_score": self.recommendation_score,
            "original_score": self.original_score,
            "retrieval_score": self.retrieval_score,
            **{name: self.features[:, at] for at, name in enumerate(self.feature_names)},
            "method": self.method,
            "exposure_weight": self.exposure_weight,
            "label": self.label,
            "source": self.source,
        }
        path = folder / "ranker.parquet"
        pq.write_table(pa.table(columns), path)
        return path


def ranker_examples(tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> Table:
    """Return the examples, ordered by serve time, list and rank.

    Only lists that the system itself served with their features logged count: a client's own and
    degraded ones have none; popular candidates count where they were ranked among others. Per list,
    `negatives_per_positive` negatives are kept for each positive: explicit dislikes first, then viewed only,
    then hard ones, those that were clicked last, each drawn by chance (`_draw`). Every explicit dislike is
    kept, in lists without a positive too.
    """
    shown = shown_items(tables, use_case).drop("features")
    shown = shown.filter(shown.has_features)
    if not config.rule_lists:
        shown = shown.filter(shown.reranked)
    share = config.hard_share if config.ranker_hard_share is None else config.ranker_hard_share
    found = with_outcome(shown, tables, use_case, config.model_copy(update={"hard_share": share}))
    found = found.filter(found.outcome.isin(["positive", *NEGATIVES]))
    order = found.outcome.cases(*NEGATIVES.items(), else_=0)
    order = order + ((found.outcome == "hard") & found.reacted).cast("int8")
    found = found.mutate(preference=order)
    # Most lists have nothing to draw negatives for: those need no sorting.
    found = found.filter((found.preference == 1) | found.session_id.isin(_praised(tables, use_case)))
    found = found.mutate(draw=_draw(found))
    within = ibis.window(group_by="session_id", order_by=["preference", "draw", "rank"])
    found = found.mutate(
        positives=(found.preference == 0).sum().over(within), place=ibis.row_number().over(within)
    )
    each = config.negatives_per_positive
    found = found.filter((found.preference <= 1) | (found.place < found.positives * (1 + each)))
    return _with_logged(found.drop("draw"), tables, use_case).order_by(["serve_time", "session_id", "rank"])


def _praised(tables: SnapshotTables, use_case: UseCase) -> Any:
    """Return the ids of all lists that had a strong event, as a column."""
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id,
        tables.interactions.session_id.notnull(),
        tables.interactions.event_type.isin(sorted(use_case.strong_events)),
    )
    return events.session_id


def _with_logged(found: Table, tables: SnapshotTables, use_case: UseCase) -> Table:
    """Add `features` as `shown_items` has them.

    To the few that were chosen: the features are most of what is logged, and choosing sorts.
    """
    lists = tables.sessions.filter(tables.sessions.use_case == use_case.id)
    logged = lists.select(logged_id="session_id", values="feature_values")
    joined = found.join(logged, found.session_id == logged.logged_id)
    return joined.select(*found.columns, features=features_at(joined["values"], joined["rank"] - 1, use_case))


def whole_lists(tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> Table:
    """Return every item of every list that counts for the ranker, in the order of `ranker_examples`.

    To judge by: a choice of negatives is part of a training, and favours whoever was trained on it. Label 1
    are strong positives; what was clicked and no more has the source ``reacted``. Lists too young to have
    been reacted to are left out.
    """
    shown = shown_items(tables, use_case)
    shown = shown.filter(shown.has_features)
    found = with_outcome(shown, tables, use_case, config.model_copy(update={"hard_share": 1.0}))
    clicked = (found.outcome == "hard") & found.reacted
    found = found.mutate(outcome=clicked.ifelse("reacted", found.outcome))
    young = found.filter(found.outcome == "young").select(left_out="session_id").distinct()
    return found.anti_join(young, found.session_id == young.left_out).order_by(
        ["serve_time", "session_id", "rank"]
    )


def _draw(found: Table) -> Any:
    """Return numbers by chance, always the same, the lowest of which are taken first.

    What nobody reacted to may not have been looked at. It is drawn in proportion to its rank's examination
    probability (exponential races), so that a pair of ranks is as likely to come one way round as the other:
    positives, which were looked at, come in that proportion by themselves.
    """
    race = -chance_of(found.session_id + " " + found.item_id).ln()
    looked_at = (found.outcome != "hard") | found.reacted
    return looked_at.ifelse(race, race * (found["rank"] + 1).log2())


def ranker_dataset(
    examples: Table,
    *,
    use_case: UseCase,
    snapshot: str,
    weighting: Weighting,
    curve: ExaminationCurve | None = None,
) -> RankerDataset:
    """Run `ranker_examples` and add the exposure weights of `matchloop.position`.

    `curve` is the examination that `Weighting.ESTIMATED` weights by.
    """
    found = examples.to_pyarrow()
    names = use_case.ranking.features
    flat = found["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    features = flat.astype(np.float32).reshape(-1, len(names))  # (n, F)
    rank = found["rank"].to_numpy().astype(np.int32)
    texts = {
        "subject": Texts.of(found["subject_id"]),
        "item": Texts.of(found["item_id"]),
        "method": Texts.of(found["method"]),
        "source": Texts.of(found["outcome"]),
    }
    source = texts["source"]
    label = np.array([value == "positive" for value in source.values], dtype=np.float32)[source.rows]
    arrays: dict[str, NDArray[Any]] = {
        "group": Texts.of(found["session_id"]).rows.astype(np.int64),
        "rank": rank,
        "recommendation_score": found["recommendation_score"].to_numpy().astype(np.float32),
        "original_score": features[:, names.index("original_score")],
        "retrieval_score": found["retrieval_score"].fill_null(np.nan).to_numpy().astype(np.float32),
        "features": features,
        "exposure_weight": exposure_weight(rank, weighting, curve=curve).astype(np.float32),
        "label": label,
    }
    serve_time = found["serve_time"].to_numpy()
    ids: dict[str, Any] = {name: column.objects() for name, column in texts.items()}
    return RankerDataset(
        **arrays,
        **ids,
        serve_time=serve_time,
        feature_names=names,
        manifest=manifest_of(
            "ranker",
            use_case.id,
            snapshot,
            {**arrays, **texts, "serve_time": serve_time.astype("datetime64[us]").astype(np.int64)},
            span_of(found["serve_time"], found["serve_time"]),
            labels=counts_of(label),
            sources=source.counts(),
            subjects=len(texts["subject"].counts()),
            items=len(texts["item"].counts()),
            weights=weights_by_rank(weighting, curve),
        ),
    )


def take(dataset: RankerDataset, rows: NDArray[np.bool_]) -> RankerDataset:
    """Return the rows of a mask; the manifest stays that of the whole."""
    columns = {
        name: getattr(dataset, name)[rows]
        for name in dataset.__dataclass_fields__
        if name not in ("feature_names", "manifest")
    }
    return RankerDataset(**columns, feature_names=dataset.feature_names, manifest=dataset.manifest)


def split_by_time(dataset: RankerDataset, share: float) -> tuple[RankerDataset, RankerDataset]:
    """Return the earlier lists and the latest `share` of them; a list is never parted."""
    lists = int(dataset.group.max()) + 1 if len(dataset) else 0
    late = dataset.group >= round(lists * (1.0 - share))
    return take(dataset, ~late), take(dataset, late)
