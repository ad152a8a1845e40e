"""``python -m playground dislikes`` as somebody runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def dislikes(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "playground", "dislikes", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.processes
def test_it_tells_a_reason_from_the_receipt_to_the_half_life() -> None:
    done = dislikes("--use-case", "user_movie", "--reason", "wrong_genre", "--reason", "already_watched")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    cut, watched = done.stdout.split("already_watched · user_movie")
    assert cut.startswith("wrong_genre · user_movie")
    for said in ("│ genres  │ thriller │ 1.000         │ 0.850 │", "thriller ×0.850", "thriller ×0.925"):
        assert said in cut
    assert "hidden: Harbour Nights" in cut
    assert "no weight changes" in watched
    assert "×" not in watched
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--use-case", "developer_startup"), "there are: user_movie, investor_startup"),
        (("--use-case", "user_movie", "--reason", "wrong_stage"), "no such reason: wrong_stage; there are: "),
    ],
)
def test_what_it_has_no_story_for_is_told(arguments: tuple[str, ...], said: str) -> None:
    done = dislikes(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
