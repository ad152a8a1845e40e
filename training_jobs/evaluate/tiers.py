"""Parts of the truth: by what is known of both sides of a pair, and by how much is known of the subject."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.usecase import UseCase
    from training_jobs.evaluate.ranking import Truth

ALL = "all"
SPLITS = ("warm", "cold_item", "cold_subject", ALL)
"""Parts by what was seen in training: ``warm`` both sides, ``cold_item`` not the item, ``cold_subject`` the
item but not the subject. They are a partition; a pair of which neither was seen is a ``cold_item``."""


def split_parts(
    truth: Truth, subjects: NDArray[np.int64], items: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Return, by name in `SPLITS`, which of the truth's pairs belong to it, in the order of `relevant.data`.

    Parameters
    ----------
    subjects, items
        Rows of those with an event in training; any order, repeats allowed.
    """
    known_item = np.zeros(truth.relevant.shape[1], dtype=np.bool_)
    known_item[items] = True
    subject_seen = np.repeat(np.isin(truth.subjects, subjects), np.diff(truth.relevant.indptr))
    item_seen = known_item[truth.relevant.indices]
    return {
        "warm": subject_seen & item_seen,
        "cold_item": ~item_seen,
        "cold_subject": ~subject_seen & item_seen,
        ALL: np.ones(len(item_seen), dtype=np.bool_),
    }


def part_with(truth: Truth, pairs: NDArray[np.bool_]) -> tuple[Truth, NDArray[np.int64]]:
    """Return the truth with only these of its pairs, and its subjects' places in `truth`.

    Subjects who have none left are left out. What is a candidate stays the same: of a subject, pairs that do
    not count here are neither right nor excluded.
    """
    relevant = truth.relevant.copy()
    relevant.data = np.where(pairs, relevant.data, 0.0).astype(relevant.data.dtype)
    relevant.eliminate_zeros()
    rows = np.flatnonzero(np.diff(relevant.indptr) > 0)
    return replace(truth.of(rows), relevant=relevant[rows]), rows


def parts_of(
    truth: Truth, use_case: UseCase, subjects: NDArray[np.int64], items: NDArray[np.int64]
) -> dict[str, tuple[Truth, NDArray[np.int64]]]:
    """Return every part that has subjects: ``all``, the other `SPLITS`, then the subject tiers.

    Parameters
    ----------
    subjects, items
        Rows of subject and item of each event in training: their counts make the tiers.

    Returns
    -------
    dict
        By name, the truth and its subjects' places in `truth`; subject tiers are named ``subject cold``,
        ``subject warm``, ``subject hot``.
    """
    splits = split_parts(truth, subjects, items)
    found = {name: part_with(truth, splits[name]) for name in (ALL, *SPLITS[:-1])}
    counts = np.bincount(subjects, minlength=int(truth.subjects.max(initial=-1)) + 1)[truth.subjects]
    bounds = np.array([use_case.tiers.cold_below, use_case.tiers.hot_from])
    tier = np.searchsorted(bounds, counts, side="right")
    for number, name in enumerate(("cold", "warm", "hot")):
        rows = np.flatnonzero(tier == number)
        found[f"subject {name}"] = (truth.of(rows), rows)
    return {name: part for name, part in found.items() if len(part[1])}
