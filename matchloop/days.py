"""A day in seconds: ages, half-lives and decays are told in days, clocks in seconds."""

from __future__ import annotations

from typing import Final

SECONDS_A_DAY: Final = 86_400
