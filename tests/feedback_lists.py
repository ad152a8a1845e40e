"""A market of its own for each example, and the plain lists that answers about it are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from feedback_svc.convert.shared import Schema
from feedback_svc.feedback_servicer import FeedbackServicer
from feedback_svc.interactions import Interaction
from feedback_svc.matches.ledger import Match, said
from feedback_svc.sessions import Session
from feedback_svc.store.protocol import Store
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.usecase import UseCases
from tests.feedback_worlds import NOW, use_cases

MARKETS = 400
NO_CONTEXT: Any = None


def loaded() -> UseCases:
    """Return many markets alike: each example has one of its own in the same store."""
    forward, reverse = use_cases()["investor_startup"], use_cases()["startup_investor"]
    return UseCases(
        [
            *(forward.model_copy(update={"id": f"market_{n}"}) for n in range(MARKETS)),
            *(
                reverse.model_copy(update={"id": f"turned_{n}", "reverse_of": f"market_{n}"})
                for n in range(MARKETS)
            ),
        ]
    )


@dataclass
class ListedMarket:
    """A market of its own in a store, and the plain lists that its answers are compared with."""

    store: Store
    servicer: FeedbackServicer
    schema: Schema
    market: int
    sessions: list[Session] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    matches: dict[tuple[str, str], Match] = field(default_factory=dict)
    changes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def use_case(self) -> str:
        return f"market_{self.market}"

    def show(self, session: Session) -> None:
        id_ = f"{self.market}-{len(self.sessions)}"
        session = replace(session, use_case=self.use_case, session_id=id_)
        self.store.record_sessions([session], now=NOW)
        self.sessions.append(session)

    def react(self, interactions: Sequence[Interaction]) -> None:
        first = len(self.interactions)
        batch = [
            replace(
                each,
                use_case=self.use_case,
                interaction_id=f"{self.market}-{first + place}",
                session_id=f"{self.market}-{each.session_id}" if each.session_id else "",
            )
            for place, each in enumerate(interactions)
        ]
        self._record(batch)
        self.interactions += batch

    def answer(self, type_: str, subject: str, item: str, hours: int) -> None:
        """Let the item react to the subject, through the reverse use case."""
        id_ = f"{self.market}-turned-{len(self.changes)}-{type_}-{subject}-{item}-{hours}"
        time = NOW + timedelta(hours=hours)
        self._record([Interaction(id_, f"turned_{self.market}", item, subject, type_, time)])

    def _record(self, batch: list[Interaction]) -> None:
        facts = [self.schema.facts[each.use_case][each.event_type] for each in batch]
        self.store.record_interactions(batch, facts, now=NOW)
        touched: dict[tuple[str, str], Match] = {}
        for each, fact in zip(batch, facts, strict=True):
            if fact.match is not None:
                match = said(fact.match, each.subject_id, each.item_id, each.event_time)
                key = (match.subject_id, match.item_id)
                touched[key] = touched[key].merge(match) if key in touched else match
        for key in sorted(touched):
            old = self.matches.get(key)
            new = old.merge(touched[key]) if old else touched[key]
            if new != old:
                self.matches[key] = new
                self.changes = [each for each in self.changes if each != key] + [key]

    def release_of(self, interaction: Interaction) -> str:
        """Return the release it is tied to; '' for none."""
        for session in self.sessions:
            if (session.session_id, session.subject_id) == (interaction.session_id, interaction.subject_id):
                return session.release
        return ""

    def list_sessions(self, request: calls.ListSessionsRequest) -> calls.ListSessionsResponse:
        return self.servicer.ListSessions(request, NO_CONTEXT)

    def list_interactions(self, request: calls.ListInteractionsRequest) -> calls.ListInteractionsResponse:
        return self.servicer.ListInteractions(request, NO_CONTEXT)

    def list_matches(self, request: calls.ListMatchesRequest) -> calls.ListMatchesResponse:
        return self.servicer.ListMatches(request, NO_CONTEXT)

    def walk(self, list_page: Callable[[Any], Any], request: Any, meanwhile: Callable[[], None]) -> list[Any]:
        """Read all pages, with something happening after each."""
        found: list[Any] = []
        while True:
            page = list_page(request)
            (rows,) = [value for name, value in page.ListFields() if name.name != "next_page_token"] or [[]]
            assert len(rows) <= request.page_size
            found += rows
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
            meanwhile()
