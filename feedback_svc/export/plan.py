"""Which ranges of a table in parts have to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feedback_svc.export.record import SEQUENCES_OF_A_CHANGE
from matchloop.snapshot import FileEntry

SMALL_PARTS = 16
"""Parts under a quarter of the usual size that a table may have; with more, neighbours are joined."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A range to be read into one file, both ends included, and the files that it replaces."""

    first: int
    last: int
    replaces: tuple[str, ...]


def amended(files: Mapping[str, FileEntry], amendments: pa.Table, *, pruned: int) -> set[str]:
    """Return the files whose range was amended after they were read, or may have been.

    Parameters
    ----------
    amendments
        Columns `sequence` and `change_sequence`.
    pruned
        Amendments of changes below it are unknown.
    """
    sequences = amendments["sequence"].to_numpy()
    changes = amendments["change_sequence"].to_numpy()
    order = np.argsort(sequences, kind="stable")
    sequences, changes = sequences[order], changes[order]
    stale = set()
    for file, entry in files.items():
        read = entry.as_of >> SEQUENCES_OF_A_CHANGE
        start, stop = np.searchsorted(sequences, [entry.first_sequence or 0, (entry.last_sequence or 0) + 1])
        if read + 1 < pruned or (changes[start:stop] > read).any():
            stale.add(file)
    return stale


def readings(files: Mapping[str, FileEntry], stale: Set[str], *, part_rows: int) -> list[Reading]:
    """Return what to read again: what is stale, and small parts when there are too many.

    Neighbours are read together as long as they are one part, at most `part_rows` rows.

    Parameters
    ----------
    files
        Parts of one table, by sequence, none without rows.
    """
    small = {file for file, entry in files.items() if entry.rows < part_rows // 4}
    again = stale | (small if len(small) > SMALL_PARTS else set())
    found: list[Reading] = []
    rows = part_rows
    for file, entry in files.items():
        own = Reading(entry.first_sequence or 0, entry.last_sequence or 0, (file,))
        if file not in again:
            rows = part_rows  # what comes next has no neighbour that is read
            continue
        if found and rows + entry.rows <= part_rows:
            before = found.pop()
            own = Reading(before.first, own.last, before.replaces + own.replaces)
            rows += entry.rows
        else:
            rows = entry.rows
        found.append(own)
    return found


def cut(blocks: Iterable[pa.Table], part_rows: int) -> Iterator[tuple[bool, pa.Table]]:
    """Cut a table into parts of `part_rows` rows, or as many more as share the last one's sequence.

    Parameters
    ----------
    blocks
        By column `sequence`.

    Returns
    -------
    Iterator
        Pieces in order, none empty, and whether each begins a part.
    """
    rows, last = part_rows, -1
    for block in blocks:
        sequences = block["sequence"].to_numpy()
        at = 0
        while at < len(sequences):
            begins = False
            if rows >= part_rows:
                end = int(np.searchsorted(sequences, last, side="right"))
                if end <= at:
                    begins, rows = True, 0
                    end = min(len(sequences), at + part_rows)
            else:
                end = min(len(sequences), at + part_rows - rows)
            yield begins, block.slice(at, end - at)
            rows += end - at
            last, at = int(sequences[end - 1]), end
