"""A release is loaded with a short switch interval, which is put back after."""

from __future__ import annotations

import sys

import pytest

from matchloop.release.gentle import SWITCH_SECONDS, gentle


def test_the_interval_is_short_inside_and_put_back_after_the_last() -> None:
    usual = sys.getswitchinterval()
    with gentle():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        with gentle():
            assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_it_is_put_back_after_an_error() -> None:
    usual = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), gentle():
        _ = 1 / 0
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_an_interval_that_is_shorter_already_stays() -> None:
    usual = sys.getswitchinterval()
    try:
        sys.setswitchinterval(SWITCH_SECONDS / 2)
        with gentle():
            assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS / 2)
    finally:
        sys.setswitchinterval(usual)
