"""What candidate_svc serves of a release, and how it keeps step with the mirror."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.popularity import PopularPart
from candidate_svc.row_map import RowMap
from matchloop.entities import Entity, EntityId, EntityKey, Kind
from matchloop.errors import MatchloopError
from matchloop.features import EntityEncoder
from matchloop.observe import faults
from matchloop.observe.logs import get_logger
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import ENSEMBLE, Choices
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.two_tower import TwoTowerModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from candidate_svc.rows import ItemRows
    from matchloop.features import TextEmbedder
    from matchloop.release.golden import Answerer
    from matchloop.release.manifest import Manifest
    from matchloop.retrieval.vector_index import VectorIndex
    from matchloop.usecase import UseCase

ALS = "als"
TWO_TOWER = "two_tower"
POPULAR = "popular"

SNAPSHOT_AGE = timedelta(hours=6)
"""Items that changed less than this before a release was made may have changed after its snapshot."""

BATCH = 1024
"""Items embedded at a time: bounds the memory of their encoded rows."""

STEP = 8
"""The same while another release is served: a millisecond of the interpreter, which its requests need."""

REST = 5.0
"""Pause after such a step, in times of what it took: five sixths of the time are the requests'."""

_log = get_logger()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Models:
    """The retrieval models of one release; a part that the release does not have is None.

    Parameters
    ----------
    created
        When the release was made.
    choices
        What validation chose by tier: method orders, and what `ensemble` is made of.
    """

    created: datetime
    als: AlsModel | None = None
    two_tower: TwoTowerModel | None = None
    popular: PopularPart | None = None
    choices: Choices = field(default_factory=Choices)


class ReleaseLoader:
    """Loads releases of one use case; keeps the item vectors of those alive in step with the mirror.

    An item that a release does not know, or that changed since, is embedded by the release's item tower: when
    the release is loaded, step by step while another one is served, and when the mirror hears of the item.
    Three releases are alive at most: the champion, the one before it, and the challenger (see
    `ReleaseSlot`); one that nobody holds is forgotten.

    Parameters
    ----------
    rows
        The items of the use case's item kind.
    embedder
        For the texts of items and subjects.
    rows_there
        Set once `rows` holds what was kept of an earlier run; a release is read meanwhile, and catches up
        then. None: they are there.
    """

    def __init__(
        self,
        use_case: UseCase,
        rows: ItemRows,
        embedder: TextEmbedder,
        *,
        rows_there: threading.Event | None = None,
    ) -> None:
        self._rows_there = rows_there
        self._use_case = use_case
        self._rows = rows
        self._embedder = embedder
        self._lock = threading.Lock()
        self._alive: weakref.WeakSet[Models] = weakref.WeakSet()

    def load(self, folder: Path, manifest: Manifest) -> Models:
        """Read the parts that `manifest` names; for `ReleaseSlot`.

        Raises
        ------
        ReleaseRefused
            If a part is corrupt or does not fit.
        """
        models = Models(
            created=manifest.created,
            als=AlsModel.load(folder / ALS) if ALS in manifest.parts else None,
            two_tower=self._load_two_tower(folder) if TWO_TOWER in manifest.parts else None,
            popular=self._load_popular(folder) if POPULAR in manifest.parts else None,
            choices=Choices.read(folder),
        )
        self._warm_up(models)
        if self._rows_there is not None:
            self._rows_there.wait()
        with self._lock:
            others = bool(self._alive)
            self._alive.add(models)  # from here on it hears of what changes
        self._catch_up(models, gently=others)
        return models

    def _catch_up(self, models: Models, *, gently: bool) -> None:
        """Embed what the release does not know as it is; gently: a few items at a time, with rests."""
        due = _due(models, self._rows)
        size = STEP if gently else BATCH
        for start in range(0, len(due), size):
            began = time.perf_counter()
            with self._lock:  # what the mirror tells of an item next comes after its state here
                _follow(models, [self._rows.entity(row) for row in due[start : start + size]])
            if gently:
                time.sleep(REST * (time.perf_counter() - began))

    def _load_two_tower(self, folder: Path) -> TwoTowerModel:
        encoders = folder / "encoder"
        return TwoTowerModel.load(
            folder / TWO_TOWER,
            subject_encoder=EntityEncoder.load(encoders / "subject.json", self._embedder),
            item_encoder=EntityEncoder.load(encoders / "item.json", self._embedder),
        )

    def _load_popular(self, folder: Path) -> PopularPart:
        model = PopularModel.load(folder / POPULAR)
        return PopularPart(model, RowMap(model.item_ids, self._rows))

    def _warm_up(self, models: Models) -> None:
        """Ask every part once: what cannot answer is refused, and the first request is not the slow one."""
        if models.als is not None and models.als.item_ids:
            vector = models.als.fold_in(np.zeros(1, dtype=np.int64), np.ones(1))
            models.als.search(vector, 1)
        if models.two_tower is not None:
            nobody = Entity(EntityKey(Kind(self._use_case.subject), EntityId("nobody")))
            models.two_tower.search(models.two_tower.embed_subjects([nobody])[0], 1)

    def items_changed(self, kind: Kind, changed: Sequence[Entity]) -> None:
        """Embed what changed for every release that is alive; see `mirror.ItemListener`."""
        if kind != self._use_case.item:
            return
        with self._lock:
            for models in self._alive:
                _follow(models, changed)


def _due(models: Models, rows: ItemRows) -> list[int]:
    """Return the rows that a release does not know as they are; the others cost a look at a column."""
    if models.two_tower is None:
        return []
    count, index = rows.count, models.two_tower.index
    held = np.fromiter((rows.id(row) in index for row in range(count)), dtype=np.bool_, count=count)
    active = np.array(rows.active(count))
    old = rows.update_times(count) < (models.created - SNAPSHOT_AGE).timestamp()  # NaN: unknown, not old
    due: list[int] = np.flatnonzero(np.where(active, ~(held & old), held)).tolist()
    return due


def _follow(models: Models, items: Sequence[Entity]) -> None:
    model = models.two_tower
    if model is None:
        return
    since = models.created - SNAPSHOT_AGE
    model.remove_items([item.key.id for item in items if not item.active])
    fresh = [item for item in items if item.active and not _known(model.index, item, since)]
    for start in range(0, len(fresh), BATCH):
        embed_each(fresh[start : start + BATCH], model.upsert_items, "two_tower")


def _known(index: VectorIndex, item: Entity, since: datetime) -> bool:
    return item.key.id in index and item.update_time is not None and item.update_time < since


def embed_each(items: Sequence[Entity], upsert: Callable[[Sequence[Entity]], None], what: str) -> None:
    """Upsert all at once, or one by one when one of them is refused; the refused are logged and left out."""
    try:
        upsert(items)
    except MatchloopError as error:
        if len(items) > 1:
            for item in items:
                embed_each([item], upsert, what)
        else:
            _log.warning(
                "item cannot be indexed", index=what, item_id=items[0].key.id, fault=faults.said(error)
            )


def answers(models: Models) -> Mapping[str, Answerer]:
    """Return what answers golden requests, by part name; for `ReleaseSlot`. Popular counts have none."""
    parts: dict[str, AlsModel | TwoTowerModel | None] = {ALS: models.als, TWO_TOWER: models.two_tower}
    found: dict[str, Answerer] = {name: part.answer for name, part in parts.items() if part is not None}
    if models.choices.fusions:
        found[ENSEMBLE] = models.choices.answer
    return found
