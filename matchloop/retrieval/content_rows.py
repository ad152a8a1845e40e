"""Where `ContentIndex` keeps its items: a row each, and which rows hold each value."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.retrieval.content_vectors import ContentVectors
from matchloop.retrieval.postings import Posting
from matchloop.retrieval.profile import ItemContent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

Value = tuple[str, str]
"""Feature and value."""


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
    vectors
        By row.
    """

    def __init__(self, width: int, *, exact_below: int) -> None:
        self.row: dict[EntityId, int] = {}
        self.ids: list[EntityId | None] = []
        self.postings: dict[Value, Posting] = {}
        self.vectors = ContentVectors(width, exact_below=exact_below)
        self._values: list[Value | None] = []  # by code; None: nobody holds it any more
        self._free_codes: list[int] = []
        self._codes: list[bytes] = []  # of each row's values, int32
        self._free: list[int] = []

    def content(self, item: EntityId) -> ItemContent | None:
        """Return what is known of an item; None if it is not there."""
        row = self.row.get(item)
        return None if row is None else ItemContent(self._held(row), self.vectors.get(row))

    def _held(self, row: int) -> Mapping[str, tuple[str, ...]]:
        held: dict[str, tuple[str, ...]] = {}
        for feature, value in self._values_of(row):
            held[feature] = (*held.get(feature, ()), value)
        return held

    def _values_of(self, row: int) -> list[Value]:
        codes = np.frombuffer(self._codes[row], dtype=np.int32).tolist()
        return [value for code in codes if (value := self._values[code]) is not None]

    def put(self, id_: EntityId, content: ItemContent) -> None:
        """Add an item, or replace it."""
        row = self.row.get(id_)
        if row is None:
            row = self.row[id_] = self._new_row()
            self.ids[row] = id_
        else:
            self._clear(row)
        self.vectors.put(row, content.vector)
        codes: list[int] = []
        for field, values in content.values.items():
            share = 1.0 / math.sqrt(len(values))
            for value in values:
                posting = self.postings.get((field, value)) or self._new_posting((field, value))
                posting.put(row, share)
                codes.append(posting.code)
        self._codes[row] = np.asarray(codes, dtype=np.int32).tobytes()

    def remove(self, id_: EntityId) -> None:
        """Remove an item if it is there."""
        row = self.row.pop(id_, None)
        if row is not None:
            self._clear(row)
            self.ids[row] = None
            self._free.append(row)

    def _new_posting(self, value: Value) -> Posting:
        if self._free_codes:
            code = self._free_codes.pop()
            self._values[code] = value
        else:
            code = len(self._values)
            self._values.append(value)
        posting = self.postings[value] = Posting(code)
        return posting

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        self.ids.append(None)
        self._codes.append(b"")
        self.vectors.grow(len(self.ids))
        return len(self.ids) - 1

    def _clear(self, row: int) -> None:
        for value in self._values_of(row):
            posting = self.postings[value]
            posting.drop(row)
            if not len(posting):
                del self.postings[value]
                self._values[posting.code] = None
                self._free_codes.append(posting.code)
        self._codes[row] = b""
        self.vectors.put(row, None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all but ids and values as arrays, for `restore`; see `names` for these."""
        parts = [self.postings[value].arrays if value else _NOTHING for value in self._values]
        lengths = [len(codes) // 4 for codes in self._codes]
        return self.vectors.arrays(len(self.ids)) | {
            "codes": np.frombuffer(b"".join(self._codes), dtype=np.int32),
            "code_counts": np.asarray(lengths, dtype=np.int64),
            "posted": np.asarray([len(rows) for rows, _ in parts], dtype=np.int64),
            "rows": np.concatenate([rows for rows, _ in parts] or [_NOTHING[0]]),
            "held": np.concatenate([held for _, held in parts] or [_NOTHING[1]]),
        }

    def names(self) -> tuple[list[str], list[str], list[str]]:
        """Return ids by row, features and values by code; empty where there is none."""
        values = [value or ("", "") for value in self._values]
        return [id_ or "" for id_ in self.ids], [field for field, _ in values], [text for _, text in values]

    def restore(
        self,
        arrays: Mapping[str, NDArray[Any]],
        ids: Sequence[EntityId],
        features: Sequence[str],
        values: Sequence[str],
    ) -> None:
        """Take what `arrays` and `names` gave, while there are no rows.

        Raises
        ------
        KeyError, ValueError
            If something is missing or malformed.
        """
        codes, ends = arrays["codes"].astype(np.int32).tobytes(), 4 * np.cumsum(arrays["code_counts"])
        bounds = [0, *ends.tolist()]
        if not len(ids) == len(bounds) - 1 == len(arrays["vectors"]) or len(features) != len(
            arrays["posted"]
        ):
            raise ValueError(f"{len(ids)} ids, {len(bounds) - 1} items, {len(arrays['vectors'])} vectors")
        self.vectors.restore(arrays["vectors"], arrays.get("scales"))
        self.ids = [id_ or None for id_ in ids]
        self.row = {id_: row for row, id_ in enumerate(ids) if id_}
        self._free = [row for row, id_ in enumerate(ids) if not id_]
        self._codes = [codes[start:end] for start, end in pairwise(bounds)]
        cuts = np.cumsum(arrays["posted"])[:-1]
        posted = zip(np.split(arrays["rows"], cuts), np.split(arrays["held"], cuts), strict=True)
        for code, (feature, value, (rows, held)) in enumerate(zip(features, values, posted, strict=False)):
            self._values.append((feature, value) if len(rows) else None)
            if len(rows):
                self.postings[feature, value] = Posting.of(rows, held, code)
            else:
                self._free_codes.append(code)


_NOTHING = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
