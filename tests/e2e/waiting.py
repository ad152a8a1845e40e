"""Bounded waits for what happens in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse
from playground.clients import Clients

Found = TypeVar("Found")

LONGEST = 30.0


def until(look: Callable[[], Found | None], what: str, *, seconds: float = LONGEST) -> Found:
    """Return the first truthy answer of `look`; fail after so many seconds."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def recommend(
    clients: Clients, use_case: str, subject_id: str, *, count: int = 10, preview: bool = False
) -> RecommendResponse:
    """Ask for a list."""
    return clients.ranking.Recommend(
        RecommendRequest(use_case=use_case, subject_id=subject_id, count=count, preview=preview), timeout=10.0
    )


def until_recommended(clients: Clients, use_case: str, subject_id: str) -> RecommendResponse:
    """Wait until the mirror has caught up and a list is not empty."""

    def full() -> RecommendResponse | None:
        reply = recommend(clients, use_case, subject_id, preview=True)
        return reply if len(reply.items) == 10 else None

    return until(full, "a full list")
