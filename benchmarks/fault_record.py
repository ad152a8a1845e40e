"""What the store has kept of what it acknowledged: nothing may be missing, nothing may be there twice."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.feedback.v1.feedback_service_pb2 import ListInteractionsRequest, ListSessionsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from playground.clients import Clients

TIMEOUT = 10.0
PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Kept:
    """What was read back.

    Parameters
    ----------
    lost_sessions, lost_reactions
        Ids that were given out or acknowledged, and are not in the store.
    doubled
        Ids that are there more than once.
    """

    sessions: int
    reactions: int
    lost_sessions: int
    lost_reactions: int
    doubled: int

    @property
    def lost(self) -> int:
        """Everything that is missing."""
        return self.lost_sessions + self.lost_reactions


def read_back(
    clients: Clients,
    use_case: str,
    begin_time: datetime,
    *,
    sessions: Sequence[str],
    reactions: Sequence[str],
    within: float,
) -> Kept:
    """Compare what is kept since `begin_time` with what should be; wait `within` seconds for the rest."""
    give_up = time.monotonic() + within
    while True:
        kept_sessions = list(_sessions(clients, use_case, begin_time))
        kept_reactions = list(_reactions(clients, use_case, begin_time))
        lost = len(set(sessions) - set(kept_sessions)), len(set(reactions) - set(kept_reactions))
        if not any(lost) or time.monotonic() > give_up:
            doubled = sum(len(ids) - len(set(ids)) for ids in (kept_sessions, kept_reactions))
            return Kept(len(set(sessions)), len(set(reactions)), *lost, doubled)
        time.sleep(PAUSE)


def _sessions(clients: Clients, use_case: str, begin_time: datetime) -> Iterator[str]:
    request = ListSessionsRequest(use_case=use_case, page_size=500)
    request.from_time.FromDatetime(begin_time)
    while True:
        page = clients.feedback.ListSessions(request, timeout=TIMEOUT)
        yield from (each.session_id for each in page.sessions)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _reactions(clients: Clients, use_case: str, begin_time: datetime) -> Iterator[str]:
    request = ListInteractionsRequest(use_case=use_case, page_size=1000)
    request.from_time.FromDatetime(begin_time)
    while True:
        page = clients.feedback.ListInteractions(request, timeout=TIMEOUT)
        yield from (each.interaction.interaction_id for each in page.interactions)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
