"""Common random numbers: chance that depends on what happens, never on when it is asked or who asks.

An outcome's uniform number is a hash of (seed, round, use case, subject, item, purpose). Two policies that
show the same item to the same subject in one round meet the same luck; their difference is their own.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Purpose(Enum):
    """What a number decides; purposes are independent of each other."""

    EXAMINE = 1
    CLICK = 2
    STRENGTH = 3
    KIND = 4
    DISLIKE = 5
    REASON = 6
    VIEW = 7


def hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    """Return a 64-bit hash per name, shape (n,)."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def uniforms(
    *,
    seed: int,
    round_: int,
    use_case: str,
    subjects: NDArray[np.uint64],
    items: NDArray[np.uint64],
    purpose: Purpose,
) -> NDArray[np.float64]:
    """Return a number in [0, 1) per (subject, item).

    Parameters
    ----------
    seed, round_, use_case
        The setting; together with the pair and the purpose they fix the number.
    subjects, items
        `hashes` of the ids, shapes that broadcast.
    purpose
        What is decided.
    """
    start = hashes([f"{seed}/{round_}/{use_case}/{purpose.value}"])
    mixed = _mix(_mix(start ^ subjects) ^ items)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's step and finaliser (Steele, Lea, Flood 2014), element by element."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
