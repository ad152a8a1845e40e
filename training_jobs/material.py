"""What every recipe needs of a snapshot for one use case: entities, encoded rows, events, the split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from matchloop.errors import TooFewExamples
from matchloop.features import EntityEncoder, load_embedder
from matchloop.snapshot import entities_of
from training_jobs.config import Engine
from training_jobs.datasets.engine import connect
from training_jobs.datasets.rows import rows_in
from training_jobs.datasets.tables import SnapshotTables, open_tables, place_of, reactions, until_place
from training_jobs.datasets.texts import Texts
from training_jobs.evaluate import Truth, truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.features import TextEmbedder
    from matchloop.snapshot import Snapshot
    from matchloop.usecase import FeatureType, UseCase
    from training_jobs.datasets.tables import Table


def _by_id(entities: list[Entity]) -> list[Entity]:
    """Return entities in an order that does not depend on the snapshot's."""
    return sorted(entities, key=lambda entity: entity.key.id)


@dataclass(frozen=True, slots=True)
class Events:
    """Interactions in order of time, in columns of equal length; entities as rows of `Material`.

    `listed` tells those that came from a list from the organic ones.
    """

    subject: NDArray[np.int64]
    item: NDArray[np.int64]
    event_type: NDArray[np.object_]
    time: NDArray[np.datetime64]
    weight: NDArray[np.float64]
    sequence: NDArray[np.int64]
    listed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.subject)

    def part(self, chosen: slice) -> Events:
        """Return a part of them."""
        return Events(
            self.subject[chosen],
            self.item[chosen],
            self.event_type[chosen],
            self.time[chosen],
            self.weight[chosen],
            self.sequence[chosen],
            self.listed[chosen],
        )

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Mask of the events of positive weight."""
        return self.weight > 0.0


@dataclass(frozen=True, slots=True)
class Encoded:
    """Fitted encoders and all entities encoded, in the order of `Material`."""

    subject_encoder: EntityEncoder
    item_encoder: EntityEncoder
    subjects: NDArray[np.float32]
    items: NDArray[np.float32]


class Material:
    """A snapshot seen by one use case.

    Parameters
    ----------
    validation_share
        The latest share of the interactions, kept for validation. 0: none, everything is for training.
    by_time
        Whether events are parted by time, as they should be; false parts them by chance.
    engine
        What runs the expressions over the snapshot's tables.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        use_case: UseCase,
        *,
        validation_share: float,
        by_time: bool = True,
        embedder: TextEmbedder | None = None,
        engine: Engine = Engine.DUCKDB,
    ) -> None:
        self.snapshot = snapshot
        self.use_case = use_case
        self.share = validation_share
        self.by_time = by_time
        self.tables: SnapshotTables = open_tables(snapshot, connect(engine))
        self.subjects: list[Entity] = _by_id(entities_of(snapshot, use_case.subject))
        self.items: list[Entity] = _by_id(entities_of(snapshot, use_case.item))
        self.subject_ids = [str(entity.key.id) for entity in self.subjects]
        self.item_ids = [str(entity.key.id) for entity in self.items]
        self._embedder = embedder or load_embedder(None, use_case.embedding_width)

    @property
    def ordered(self) -> Table:
        """The use case's interactions as a table expression."""
        return reactions(self.tables, self.use_case, by_time=self.by_time)

    @cached_property
    def count(self) -> int:
        """How many interactions."""
        return int(self.ordered.count().to_pyarrow().as_py())

    @cached_property
    def _last(self) -> tuple[Any, int] | None:
        """Turn and sequence of the training part's last event."""
        return place_of(self.ordered, self.cut)

    @property
    def training_part(self) -> Table:
        """The interactions before the validation part."""
        return until_place(self.ordered, self._last)

    @cached_property
    def training_tables(self) -> SnapshotTables:
        """The record as it stood at the training part's last event; all of it where there is no such time."""
        if not self.by_time or self.cut in (0, self.count) or self._last is None:
            return self.tables
        return self.tables.until(self._last[0])

    @cached_property
    def events(self) -> Events:
        """All interactions."""
        found = self.ordered.order_by("place").to_pyarrow()
        return Events(
            rows_in(found["subject_id"], self.subject_ids),
            rows_in(found["item_id"], self.item_ids),
            Texts.of(found["event_type"]).objects(),
            found["event_time"].to_numpy(),
            found["weight"].to_numpy(),
            found["sequence"].to_numpy(),
            found["session_id"].is_valid().to_numpy(),
        )

    @property
    def cut(self) -> int:
        """Place of the first interaction of the validation part."""
        return round(self.count * (1.0 - self.share))

    @property
    def training_events(self) -> Events:
        """The interactions before the validation part."""
        return self.events.part(slice(0, self.cut))

    def truth(self, *, at_most: int, seed: int) -> Truth:
        """Return the pairs of positive weight in the validation part that are not in the training part."""
        held_out, known = self.events.part(slice(self.cut, None)), self.training_events
        good = held_out.positive
        return truth_of(
            (held_out.subject[good], held_out.item[good]),
            (known.subject, known.item),
            (len(self.subjects), len(self.items)),
            at_most=at_most,
            rng=np.random.default_rng(seed),
        )

    def newer(self, truth: Truth, watermark: int) -> Truth:
        """Return a truth's organic pairs that the store received after `watermark`, with their subjects.

        A release whose snapshot had this watermark cannot have been trained on them, and no list of its own
        has brought them about.
        """
        late = (self.events.sequence > watermark) & ~self.events.listed
        events, shape = self.events, truth.relevant.shape
        row = np.full(len(self.subjects), -1)
        row[truth.subjects] = np.arange(len(truth))
        late &= row[events.subject] >= 0
        kept = sparse.csr_matrix(
            (np.ones(int(late.sum()), np.float32), (row[events.subject[late]], events.item[late])),
            shape=shape,
        )
        relevant = truth.relevant.multiply(kept > 0).tocsr()
        relevant.eliminate_zeros()
        rows = np.flatnonzero(np.diff(relevant.indptr) > 0)
        return Truth(truth.subjects[rows], relevant[rows], truth.seen[rows])

    @cached_property
    def encoded(self) -> Encoded:
        """Fit the encoders and encode every entity.

        Raises
        ------
        TooFewExamples
            When there are no subjects or no items.
        """
        if not self.subjects or not self.items:
            raise TooFewExamples(
                f"{self.use_case.id}: {len(self.subjects)} subjects, {len(self.items)} items in the snapshot"
            )
        subject = self._fitted(self.use_case.subject_features, self.subjects)
        item = self._fitted(self.use_case.item_features, self.items)
        return Encoded(subject, item, subject.encode(self.subjects), item.encode(self.items))

    def _fitted(self, schema: dict[str, FeatureType], entities: Sequence[Entity]) -> EntityEncoder:
        return EntityEncoder.fit(
            schema, entities, embedder=self._embedder, embedding_width=self.use_case.embedding_width
        )
