"""Where `ContentIndex` keeps its items: a row each, and which rows hold each value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.entities import EntityId
from matchloop.retrieval.content_vectors import ContentVectors
from matchloop.retrieval.postings import Posting
from matchloop.retrieval.profile import ItemContent
from matchloop.retrieval.ragged import Grown, Ragged
from matchloop.retrieval.scored import row_by_id
from matchloop.retrieval.signatures import Signatures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


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
    signatures
        Rows by the common values they hold; None under `exact_below`.
    """

    def __init__(self, width: int, *, exact_below: int) -> None:
        self.row: dict[EntityId, int] = {}
        self.ids: list[EntityId | None] = []
        self.postings: dict[Value, Posting] = {}
        self.vectors = ContentVectors(width, exact_below=exact_below)
        self.signatures: Signatures | None = None
        self._exact_below = exact_below
        self._values: list[Value | None] = []  # by code; None: nobody holds it any more
        self._feature = Grown(np.zeros(0, dtype=np.int64))  # by code, a number of its feature
        self._features: dict[str, int] = {}
        self._scratch = np.zeros(0, dtype=np.float32)
        self._free_codes: list[int] = []
        self._codes = Ragged()  # of each row's values
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
        return [value for code in self._codes.get(row).tolist() if (value := self._values[code]) is not None]

    def put(self, id_: EntityId, values_by_field: Mapping[str, tuple[str, ...]]) -> int:
        """Add an item, or replace it; return its row, whose vector is not set yet."""
        row = self.row.get(id_)
        if row is None:
            row = self.row[id_] = self._new_row()
            self.ids[row] = id_
        else:
            self._clear(row)
        codes: list[tuple[int, int]] = []
        for field, values in values_by_field.items():
            share = 1.0 / math.sqrt(len(values))
            for value in values:
                posting = self.postings.get((field, value))
                if posting is None:
                    posting = self._new_posting((field, value))
                posting.put(row, share)
                codes.append((posting.code, len(values)))
        self._codes.put(row, [code for code, _ in codes])
        if self.signatures is not None:
            self.signatures.put(row, codes)
        self._sign_when_due()
        return row

    def _sign_when_due(self) -> None:
        """Group rows when they have become many; again when as many changed: what is common has too."""
        known = self.signatures
        if len(self.ids) >= self._exact_below and (known is None or known.changes >= known.rows):
            self._sign()

    def _sign(self) -> None:
        self.signatures = Signatures(*self._codes.all(), self._feature.values)
        for row in self._free:
            self.signatures.clear(row)
        self._scratch = np.zeros(len(self.ids), dtype=np.float32)

    def scores(self, rows: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the values of these rows add to their scores, (len(rows),).

        Parameters
        ----------
        weights
            By code, (codes,).
        """
        codes, counts = self._codes.of(rows)
        line = np.repeat(np.arange(len(rows)), counts)
        together = line * len(self._features) + self._feature.values[codes]
        held = 1.0 / np.sqrt(np.maximum(np.bincount(together), 1))
        found = np.bincount(line, weights[codes] * held[together], minlength=len(rows))
        return found.astype(np.float32)

    def scratch(self) -> NDArray[np.float32]:
        """Return a zero for every row; to be left as it was found."""
        if len(self._scratch) < len(self.ids):
            self._scratch = np.zeros(len(self.ids) * 5 // 4, dtype=np.float32)
        return self._scratch

    @property
    def codes(self) -> int:
        """How many codes of values were given out."""
        return len(self._values)

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
            self._feature.values[code] = self._number(value[0])
        else:
            code = len(self._values)
            self._values.append(value)
            self._feature.extend([self._number(value[0])])
        posting = self.postings[value] = Posting(code)
        return posting

    def _number(self, feature: str) -> int:
        return self._features.setdefault(feature, len(self._features))

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        self.ids.append(None)
        self._codes.add()
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
        self._codes.put(row, ())
        if self.signatures is not None:
            self.signatures.clear(row)
        self.vectors.put([row], [None])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all but ids and values as arrays, for `restore`; see `names` for these."""
        parts = [self.postings[value].arrays if value else _NOTHING for value in self._values]
        codes, counts = self._codes.all()
        return self.vectors.arrays(len(self.ids)) | {
            "codes": codes,
            "code_counts": counts,
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
        codes, counts = arrays["codes"], arrays["code_counts"]
        if not len(ids) == len(counts) == len(arrays["vectors"]) or len(features) != len(arrays["posted"]):
            raise ValueError(f"{len(ids)} ids, {len(counts)} items, {len(arrays['vectors'])} vectors")
        if counts.sum() != len(codes) or (len(codes) and not 0 <= codes.min() <= codes.max() < len(features)):
            raise ValueError(f"{len(codes)} codes of {len(features)} values, {counts.sum()} are held")
        self.vectors.restore(arrays["vectors"], arrays.get("scales"))
        self._feature = Grown(np.asarray([self._number(name) for name in features], dtype=np.int64))
        self.ids = [id_ or None for id_ in ids]
        self.row = row_by_id(ids)
        self.row.pop(_NOBODY, None)
        self._free = [row for row, id_ in enumerate(ids) if not id_]
        self._codes.restore(codes.astype(np.int32), counts.astype(np.int64))
        rows, held = arrays["rows"].astype(np.int32), arrays["held"].astype(np.float32)
        ends = np.cumsum(arrays["posted"]).tolist()
        if not len(rows) == len(held) == (ends[-1] if ends else 0):
            raise ValueError(f"{len(rows)} rows of postings, {len(held)} shares")
        spans = zip(features, values, [0, *ends], ends, strict=False)
        for code, (feature, value, start, end) in enumerate(spans):
            self._values.append((feature, value) if end > start else None)
            if end > start:
                self.postings[feature, value] = Posting.of(rows, held, start, end, code)
            else:
                self._free_codes.append(code)
        self._sign_when_due()


_NOBODY = EntityId("")
_NOTHING = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
