"""Items grouped by the common values they hold: what those add to a score is worked out once a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matchloop.retrieval.ragged import Grown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

COMMON_SHARES = (256, 64, 16, 4)
"""A value is common when more than a 256th of the rows hold it; or a 64th, ... if groups were too many."""

ROWS_A_GROUP = 8
"""Groups are too many when they hold fewer rows than this on average."""

_FEWEST_GROUPS = 1024


class Signatures:
    """Groups of rows that hold the same common values, each as one of as many of its feature.

    Which values are common is settled when it is made; rows come, change and go after that. Not safe for
    several threads by itself.

    Parameters
    ----------
    codes
        Of the values of row 0, then of row 1, ..., int32 (p,); in a row, feature by feature.
    counts
        How many of them each row has, (n,).
    features
        By code, a number for the feature, (values,).

    Attributes
    ----------
    of
        The group of each row, int32; −1: none. There may be more rows than were put.
    rows
        How many there were when it was made.
    changes
        Rows put or cleared since.
    """

    def __init__(
        self, codes: NDArray[np.int32], counts: NDArray[np.int64], features: NDArray[np.int64]
    ) -> None:
        rows = self.rows = len(counts)
        self.changes = 0
        self.of = np.full(max(rows, 1), -1, dtype=np.int32)
        row = np.repeat(np.arange(rows), counts)  # (p,)
        feature = features[codes]  # values of one feature stand together
        begins = (np.diff(row, prepend=-1) != 0) | (np.diff(feature, prepend=-1) != 0)
        run = np.cumsum(begins) - 1
        beside = np.bincount(run)[run] if len(run) else run  # (p,): n of "one of n"
        held_by = np.bincount(codes, minlength=len(features))
        for share in COMMON_SHARES:
            self._common = held_by > max(rows // share, 1)
            chosen = self._common[codes]
            key = np.zeros(rows, dtype=np.uint64)
            np.add.at(key, row[chosen], _mixed(codes[chosen], beside[chosen]))
            keys, first, group = np.unique(key, return_index=True, return_inverse=True)
            if len(keys) <= max(rows // ROWS_A_GROUP, _FEWEST_GROUPS):
                break
        self.of[:rows] = group
        self._group = {int(own): at for at, own in enumerate(keys.tolist())}
        self._rows = np.argsort(group, kind="stable").astype(np.int32)  # by group
        self._start = np.searchsorted(group[self._rows], np.arange(len(keys) + 1))  # (groups + 1,)
        self._added: dict[int, list[int]] = {}
        self._size = Grown(np.diff(self._start))
        # Values of a group: those of its first row, after a dummy of no worth, so that none is empty.
        code, one_of, begin = codes[chosen], beside[chosen], np.searchsorted(row[chosen], np.arange(rows + 1))
        spans = [slice(start, end) for start, end in zip(begin[first], begin[first + 1], strict=True)]
        self._first_pair, self._code, self._held = Grown(np.zeros(0, np.int64)), Grown(_NONE), Grown(_NOTHING)
        lengths = np.asarray([span.stop - span.start + 1 for span in spans], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        flat_code = np.zeros(int(lengths.sum()), dtype=np.int32)
        flat_held = np.zeros(len(flat_code), dtype=np.float32)
        real = np.ones(len(flat_code), dtype=np.bool_)
        real[starts] = False
        at = np.concatenate([np.arange(span.start, span.stop) for span in spans] or [np.zeros(0, np.int64)])
        flat_code[real] = code[at]
        flat_held[real] = 1.0 / np.sqrt(one_of[at])
        self._first_pair.extend(starts)
        self._code.extend(flat_code)
        self._held.extend(flat_held)

    def put(self, row: int, values: Iterable[tuple[int, int]]) -> None:
        """Put a row into its group, and out of the one it was in.

        Parameters
        ----------
        values
            Code of each value, and as one of how many of its feature.
        """
        self.clear(row)
        common = [(code, count) for code, count in values if self.is_common(code)]
        key = sum(_mixed_one(code, count) for code, count in common) & _ALL
        group = self._group.get(key)
        if group is None:
            group = self._group[key] = len(self._size)
            self._first_pair.extend([len(self._code)])
            self._code.extend([0, *(code for code, _ in common)])
            self._held.extend([0.0, *(count**-0.5 for _, count in common)])
            self._size.extend([0])
        self._added.setdefault(group, []).append(row)
        self._size.values[group] += 1
        if row >= len(self.of):
            grown = np.full(max(row + 1, len(self.of) * 3 // 2), -1, dtype=np.int32)
            grown[: len(self.of)] = self.of
            self.of = grown
        self.of[row] = group

    def clear(self, row: int) -> None:
        """Take a row out of its group, if it is in one."""
        self.changes += 1
        if row < len(self.of) and self.of[row] >= 0:
            self._size.values[self.of[row]] -= 1
            self.of[row] = -1

    def is_common(self, code: int) -> bool:
        """Tell whether a value makes groups; one whose code was given out later does not."""
        return code < len(self._common) and bool(self._common[code])

    def scores(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what common values add to the score of each group's rows, (groups,).

        Parameters
        ----------
        weights
            By code, (values,).
        """
        found: NDArray[np.float32] = np.add.reduceat(
            weights[self._code.values] * self._held.values, self._first_pair.values
        )
        return found

    def best(self, scores: NDArray[np.float32], size: int) -> tuple[NDArray[np.int32], float]:
        """Return `size` rows of the groups with the best scores, or all rows, and the least such score."""
        sizes, take = self._size.values, 64
        while True:
            take = min(take, len(scores))
            groups = np.argpartition(-scores, take - 1)[:take]
            if take == len(scores) or int(sizes[groups].sum()) >= size:
                break
            take *= 8
        groups = groups[np.argsort(-scores[groups], kind="stable")]
        groups = groups[: int(np.searchsorted(np.cumsum(sizes[groups]), size)) + 1]
        return self._members(groups)[:size], float(scores[groups[-1]])

    def _members(self, groups: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the rows of groups, group by group, ascending within one."""
        known = len(self._start) - 1  # groups that came since have no rows but added ones
        start = self._start[np.minimum(groups, known)]
        counts = self._start[np.minimum(groups + 1, known)] - start
        skipped = start - (np.cumsum(counts) - counts)
        place = np.repeat(np.arange(len(groups)), counts)
        rows = self._rows[np.arange(len(place)) + skipped[place]]
        added = [(at, row) for at, own in enumerate(groups.tolist()) for row in self._added.get(own, ())]
        if added:
            at, more = np.asarray(added).T
            both = np.sort((np.concatenate([place, at]) << _HALF) + np.concatenate([rows, more]))
            both = both[np.diff(both, prepend=-1) > 0]
            place, rows = both >> _HALF, (both & _ROW).astype(np.int32)
        found: NDArray[np.int32] = rows[self.of[rows] == groups[place]]
        return found


_NONE = np.zeros(0, dtype=np.int32)
_NOTHING = np.zeros(0, dtype=np.float32)
_ALL = 2**64 - 1
_ROW = 2**32 - 1
_ONE, _OTHER, _HALF = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 32


def _mixed(codes: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return 64 bits for each value as one of so many; groups are told apart by their sums."""
    mixed = (codes.astype(np.uint64) * np.uint64(1024) + counts.astype(np.uint64) + np.uint64(1)) * np.uint64(
        _ONE
    )
    mixed ^= mixed >> np.uint64(_HALF)
    mixed *= np.uint64(_OTHER)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(_HALF))
    return found


def _mixed_one(code: int, count: int) -> int:
    mixed = (code * 1024 + count + 1) * _ONE & _ALL
    mixed ^= mixed >> _HALF
    mixed = mixed * _OTHER & _ALL
    return mixed ^ (mixed >> _HALF)
