"""What a subject is like when it turns to an item: the values within which popularity differs.

Three kinds of segments, declared in a use case's ``[popularity]``: values of categorical and multi features;
how old the subject is, from a feature that holds a year; how many interactions it had before. Training counts
events within them and serving asks for them, so both get them here.
"""

from __future__ import annotations

from datetime import UTC
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import Numeric, discrete_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import ArrayLike, NDArray

    from matchloop.entities import FeatureValue
    from matchloop.usecase import Popularity

EARLIER = "earlier interactions"
"""Name of the segment by how many interactions the subject had; no feature can be called so."""

UNKNOWN = "unknown"
"""The age of a subject whose year is missing: a value like the others, for it says something too."""

DAYS_A_YEAR = 365.2425


def bucket_names(bounds: Sequence[float]) -> tuple[str, ...]:
    """Return a name for each part that ascending bounds cut the numbers into, lowest first.

    A lower bound belongs to the part over it. Names tell the bounds, so those of other bounds never fit.
    """
    between = (f"{low:g} to {high:g}" for low, high in pairwise(bounds))
    return (f"under {bounds[0]:g}", *between, f"from {bounds[-1]:g}")


def bucket_of(numbers: ArrayLike, bounds: Sequence[float]) -> NDArray[np.int64]:
    """Return the place in `bucket_names` of each number, int64, same shape; −1 for NaN."""
    given = np.asarray(numbers, dtype=np.float64)
    place = np.searchsorted(np.asarray(bounds, dtype=np.float64), given, side="right")
    return np.where(np.isnan(given), -1, place).astype(np.int64)


def decimal_year(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return times as years, e.g. 2012.5 in the middle of 2012; float64, same shape, NaN for NaT."""
    days = (times - np.datetime64("1970-01-01", "us")) / np.timedelta64(1, "D")
    return np.asarray(1970.0 + days / DAYS_A_YEAR, dtype=np.float64)


def segment_values(
    popularity: Popularity,
    features: Mapping[str, FeatureValue] | None,
    *,
    now: datetime,
    earlier: int,
) -> dict[str, tuple[str, ...]]:
    """Return a subject's values by segment, without those it has none of.

    Parameters
    ----------
    features
        The subject's; None: the subject is not known, and so has no age either.
    now
        Aware UTC; ages are at this time.
    earlier
        Interactions of the subject in the use case so far, 0 or more.
    """
    held = {} if features is None else features
    found = {name: discrete_values(held.get(name)) for name in popularity.segments}
    if features is not None:
        moment = np.array([now.astimezone(UTC).replace(tzinfo=None)], dtype="datetime64[us]")
        year = float(decimal_year(moment)[0])
        found |= {
            name: (age_name(features.get(name), year, bounds),) for name, bounds in popularity.ages.items()
        }
    if popularity.earlier:
        place = int(bucket_of(earlier, popularity.earlier))
        found[EARLIER] = (bucket_names(popularity.earlier)[place],)
    return {name: values for name, values in found.items() if values}


def age_name(value: FeatureValue | None, year: float, bounds: Sequence[float]) -> str:
    """Return the name of the age in `year` of what began in the year `value`."""
    if not isinstance(value, Numeric):
        return UNKNOWN
    return bucket_names(bounds)[int(bucket_of(year - value.value, bounds))]
