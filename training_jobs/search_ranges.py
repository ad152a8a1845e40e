"""Ranges that a search draws from; a configuration's own settings are always among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

if TYPE_CHECKING:
    from collections.abc import Sequence


def any_of(values: Sequence[Any], *more: Any) -> CategoricalDistribution:
    """Return a choice among values."""
    return CategoricalDistribution(list(dict.fromkeys((*values, *more))))


def around(low: float, high: float, *own: float) -> FloatDistribution:
    """Return a range in which every factor is as likely, wide enough for `own`."""
    return FloatDistribution(min(low, *own), max(high, *own), log=True)


def widths(hidden: Sequence[int]) -> str:
    """Return the widths of hidden layers as one choice."""
    return "-".join(map(str, hidden))
