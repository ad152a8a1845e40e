"""Encoded rows of items, kept for as long as they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features import EntityEncoder

MOST_BYTES = 32 * 2**20
"""Memory of one release's kept rows."""


class EncodedItems:
    """Encodes items, each state of an item once while it is kept; safe for several threads.

    A row is given again for the very same `Entity` object only: an item that changed is another object.

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
        self._most = most_bytes // (4 * max(self._width, 1))
        self._lock = threading.Lock()
        self._kept: OrderedDict[EntityId, tuple[Entity, NDArray[np.float32]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def rows(self, items: Sequence[Entity]) -> NDArray[np.float32]:
        """Return `EntityEncoder.encode` of the items, shape (len(items), width), in the order given."""
        out = np.empty((len(items), self._width), dtype=np.float32)
        missing: list[int] = []
        with self._lock:
            for at, item in enumerate(items):
                kept = self._kept.get(item.key.id)
                if kept is not None and kept[0] is item:
                    self._kept.move_to_end(item.key.id)
                    out[at] = kept[1]
                else:
                    missing.append(at)
        if missing:
            out[missing] = self._encoder.encode([items[at] for at in missing])
            with self._lock:
                for at in missing:
                    self._kept[items[at].key.id] = (items[at], out[at].copy())
                    self._kept.move_to_end(items[at].key.id)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return out
