"""Where `ContentIndex` keeps its items: a row each, and which rows hold each value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from matchloop.retrieval.postings import Posting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.entities import EntityId
    from matchloop.retrieval.profile import ItemContent

FIRST_CAPACITY = 64


class ContentRows:
    """Items by row; the rows of items that went are used again. Not safe for several threads by itself.

    Attributes
    ----------
    row
        Row by id.
    ids
        Id by row; None: a free row.
    postings
        By (feature, value); no empty ones.
    """

    def __init__(self, width: int) -> None:
        self.row: dict[EntityId, int] = {}
        self.ids: list[EntityId | None] = []
        self.postings: dict[tuple[str, str], Posting] = {}
        self._contents: list[ItemContent | None] = []
        self._free: list[int] = []
        self._vectors = np.zeros((0, width), dtype=np.float32)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors by row, shape (len(ids), width); zero where an item has none."""
        return self._vectors[: len(self.ids)]

    def content(self, item: EntityId) -> ItemContent | None:
        """Return what is known of an item; None if it is not there."""
        row = self.row.get(item)
        return None if row is None else self._contents[row]

    def put(self, id_: EntityId, content: ItemContent) -> None:
        """Add an item, or replace it."""
        row = self.row.get(id_)
        if row is None:
            row = self.row[id_] = self._new_row()
            self.ids[row] = id_
        else:
            self._clear(row)
        self._contents[row] = content
        if content.vector is not None:
            self._vectors[row] = content.vector
        for field, values in content.values.items():
            for value in values:
                posting = self.postings.setdefault((field, value), Posting())
                posting.put(row, 1.0 / math.sqrt(len(values)))

    def remove(self, id_: EntityId) -> None:
        """Remove an item if it is there."""
        row = self.row.pop(id_, None)
        if row is not None:
            self._clear(row)
            self.ids[row] = None
            self._free.append(row)

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        self.ids.append(None)
        self._contents.append(None)
        if len(self.ids) > len(self._vectors):
            capacity = max(FIRST_CAPACITY, 2 * len(self._vectors))
            grown = np.zeros((capacity, self._vectors.shape[1]), dtype=np.float32)
            grown[: len(self._vectors)] = self._vectors
            self._vectors = grown
        return len(self.ids) - 1

    def _clear(self, row: int) -> None:
        content = self._contents[row]
        assert content is not None
        for field, values in content.values.items():
            for value in values:
                posting = self.postings[field, value]
                posting.drop(row)
                if not len(posting):
                    del self.postings[field, value]
        self._contents[row] = None
        self._vectors[row] = 0.0
