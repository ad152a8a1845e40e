"""How much memory the embedded PostgreSQL may fill."""

from __future__ import annotations

import pytest

from playground.postgres import buffer_megabytes

GB = 2**30


@pytest.mark.parametrize(
    ("memory", "megabytes"), [(GB // 4, 128), (4 * GB, 1024), (8 * GB, 2048), (256 * GB, 2048)]
)
def test_a_quarter_of_the_memory_within_bounds(memory: int, megabytes: int) -> None:
    assert buffer_megabytes(memory) == megabytes
