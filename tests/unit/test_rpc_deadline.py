"""Budgets: what is passed on is what is left less the reserve."""

from __future__ import annotations

from contextvars import Context

import pytest

from matchloop.errors import DeadlinePassed
from matchloop.rpc import deadline


def test_without_a_budget_the_bound_is_the_timeout() -> None:
    assert Context().run(deadline.remaining) is None
    assert Context().run(lambda: deadline.upstream_timeout(most=0.7)) == 0.7


def test_the_rest_less_the_reserve() -> None:
    with deadline.budget(1.0):
        assert 0.85 < deadline.upstream_timeout(reserve=0.1) <= 0.9
        assert deadline.upstream_timeout(most=0.2) == 0.2


def test_too_little_left() -> None:
    with deadline.budget(0.004), pytest.raises(DeadlinePassed):
        deadline.upstream_timeout(reserve=0.005)
    with deadline.budget(-1.0):
        assert deadline.remaining() == 0.0


def test_an_inner_budget_tightens_and_never_widens() -> None:
    with deadline.budget(1.0):
        with deadline.budget(100.0):
            assert (deadline.remaining() or 9.0) <= 1.0
        with deadline.budget(0.1):
            assert (deadline.remaining() or 9.0) <= 0.1
        assert (deadline.remaining() or 0.0) > 0.5
