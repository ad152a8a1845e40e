"""Arms: sticky, fair, growing."""

from __future__ import annotations

import pytest

from matchloop.experiments.arms import CHALLENGER_ARM, CHAMPION_ARM, NO_ARM, arm_of

SUBJECTS = [f"subject{i}" for i in range(4000)]


def challenged(share: float, salt: str = "", use_case: str = "user_movie") -> set[str]:
    return {s for s in SUBJECTS if arm_of(use_case, s, share=share, salt=salt) == CHALLENGER_ARM}


def test_no_share_is_no_arm() -> None:
    assert arm_of("user_movie", "u1") == NO_ARM


def test_shares_are_met_and_sticky() -> None:
    found = challenged(0.3)
    assert 0.27 < len(found) / len(SUBJECTS) < 0.33
    assert found == challenged(0.3)
    assert challenged(1.0) == set(SUBJECTS)
    assert arm_of("user_movie", "subject1", share=1e-9) == CHAMPION_ARM


def test_a_larger_share_keeps_who_is_in() -> None:
    assert challenged(0.1) < challenged(0.3) < challenged(0.9)


def test_experiments_deal_independently() -> None:
    both = challenged(0.5) & challenged(0.5, salt="second")
    assert 0.2 < len(both) / len(SUBJECTS) < 0.3


def test_the_point_of_a_subject_never_changes() -> None:
    # A change of the hash would move subjects between arms in the middle of an experiment.
    found = [s for s in SUBJECTS[:20] if s in challenged(0.3)]
    assert found == [f"subject{i}" for i in (0, 3, 6, 8, 10, 12, 16)]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        arm_of("user_movie", "u1", share=share)
