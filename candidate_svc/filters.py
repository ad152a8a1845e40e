"""Feature filters compiled to masks over the rows of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.domain import Equals, FeatureFilter, OneOf, Within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from candidate_svc.rows import ItemRows


def fitting(filters: Iterable[FeatureFilter], rows: ItemRows, count: int) -> NDArray[np.bool_] | None:
    """Return which of the first `count` rows fit every filter.

    Parameters
    ----------
    filters
        On features of `rows.schema` of a type that the test fits; `convert` sees to that.

    Returns
    -------
    ndarray of bool, shape (count,), or None
        None when there is no filter: everything fits. A row without a value for the feature does not.
    """
    mask: NDArray[np.bool_] | None = None
    for test in filters:
        own = _mask(test, rows, count)
        mask = own if mask is None else mask & own
    return mask


def _mask(test: FeatureFilter, rows: ItemRows, count: int) -> NDArray[np.bool_]:
    match test:
        case Equals(feature, value):
            return _holding(feature, (value,), rows, count)
        case OneOf(feature, values):
            return _holding(feature, values, rows, count)
        case Within(feature, minimum, maximum):
            numbers = rows.numbers(feature, count)
            low = -np.inf if minimum is None else minimum
            high = np.inf if maximum is None else maximum
            return np.asarray((numbers >= low) & (numbers <= high))


def _holding(feature: str, values: Iterable[str], rows: ItemRows, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    for value in values:
        mask[rows.holding(feature, value, count)] = True
    return mask
