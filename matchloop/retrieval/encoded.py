"""Encoded rows of items, kept for as long as they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features import EntityEncoder

MOST_BYTES = 24 * 2**20
"""Memory of one release's kept rows."""

_BESIDE = 320
"""Bytes that a kept row takes besides its numbers."""

_Row = tuple[object, bytes, bytes]
"""An item's state, the columns (int32) that are not 0, and what stands there (float32)."""


@dataclass(frozen=True, slots=True)
class History:
    """The items that one subject reacted to, in columns of equal length n.

    Parameters
    ----------
    ids
        Theirs.
    weights
        The events'; those of 0 and less are left out.
    states
        An item's is another object as soon as its features are others.
    read
        Given a place, the item there in its state; asked only when it is not encoded yet.
    """

    ids: Sequence[EntityId]
    weights: Sequence[float]
    states: Sequence[object]
    read: Callable[[int], Entity]

    def __len__(self) -> int:
        return len(self.ids)


class EncodedItems:
    """Encodes items, each state of an item once while it is kept; safe for several threads.

    Of a row only what is not 0 is kept: few of its columns are.

    Parameters
    ----------
    encoder
        Of the items' kind.
    most_bytes
        Memory of kept rows; the one asked for longest ago goes first.
    """

    def __init__(self, encoder: EntityEncoder, *, most_bytes: int = MOST_BYTES) -> None:
        self._encoder = encoder
        self._width = encoder.width
        self._most = most_bytes
        self._lock = threading.Lock()
        self._size = 0
        self._kept: OrderedDict[EntityId, _Row] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of kept rows, at most `most_bytes`."""
        return self._size

    def rows(self, history: History) -> NDArray[np.float32]:
        """Return `EntityEncoder.encode` of the items, shape (n, width), in the order given."""
        found: list[_Row] = []
        missing: list[int] = []
        with self._lock:
            for at, (id_, state) in enumerate(zip(history.ids, history.states, strict=True)):
                kept = self._kept.get(id_)
                if kept is None or kept[0] is not state:
                    missing.append(at)
                    kept = (state, b"", b"")
                else:
                    self._kept.move_to_end(id_)
                found.append(kept)
        if missing:
            for at, row in zip(missing, self._encoder.encode(list(map(history.read, missing))), strict=True):
                columns = np.flatnonzero(row)
                found[at] = (history.states[at], columns.astype(np.int32).tobytes(), row[columns].tobytes())
            self._keep([(history.ids[at], found[at]) for at in missing])
        columns = np.frombuffer(b"".join([own[1] for own in found]), dtype=np.int32)
        values = np.frombuffer(b"".join([own[2] for own in found]), dtype=np.float32)
        sizes = np.fromiter((len(own[1]) // columns.itemsize for own in found), np.int64, len(found))
        line = np.repeat(np.arange(len(found)), sizes)
        out = np.zeros((len(found), self._width), dtype=np.float32)
        out.ravel()[line * self._width + columns] = values
        return out

    def _keep(self, rows: Sequence[tuple[EntityId, _Row]]) -> None:
        with self._lock:
            for id_, row in rows:
                before = self._kept.pop(id_, None)
                self._size += _bytes(row) - (0 if before is None else _bytes(before))
                self._kept[id_] = row
            while self._size > self._most:
                _, gone = self._kept.popitem(last=False)
                self._size -= _bytes(gone)


def _bytes(row: _Row) -> int:
    return len(row[1]) + len(row[2]) + _BESIDE
