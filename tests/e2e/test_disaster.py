"""A backup taken under load comes back where nothing else is: it serves, and lacks nothing of before it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from feedback_svc.backup.make import back_up
from feedback_svc.backup.restore import restore
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.rpc.validation import utc_now
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.market import Market
from playground.postgres import EmbeddedPostgres
from playground.stack import Ports, Stack
from tests.e2e.conftest import USE_CASE
from tests.e2e.waiting import recommend, until, until_recommended
from tests.feedback_worlds import open_folder
from training_jobs import registry_backup

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

RELEASES = ("before", "champion", "after")
"""Registered in this order; the second is champion."""


class Visitors:
    """Two clients who ask for lists and like what is on top of each, until the block ends.

    Parameters
    ----------
    liked
        Item, session and release of each like that was acknowledged, by its id.
    """

    def __init__(self, stack: Stack, subjects: list[str]) -> None:
        self._stack, self.subjects = stack, subjects
        self.liked: dict[str, tuple[str, str, str]] = {}
        self.failures: list[str] = []
        self._stopping = threading.Event()

    @contextmanager
    def visiting(self) -> Iterator[Visitors]:
        threads = [threading.Thread(target=self._visit, args=(subject,)) for subject in self.subjects]
        for thread in threads:
            thread.start()
        try:
            self.until_liked(20)
            yield self
            self.until_liked(20)
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(30)

    def until_liked(self, number: int) -> None:
        wanted = len(self.liked) + number
        until(lambda: len(self.liked) >= wanted, f"{wanted} likes")

    def _visit(self, subject: str) -> None:
        with self._stack.clients() as clients:
            number = 0
            while not self._stopping.is_set():
                number += 1
                try:
                    self._like(clients, subject, f"{subject}-{number}")
                except grpc.RpcError as error:
                    self.failures.append(str(error))

    def _like(self, clients: Clients, subject: str, name: str) -> None:
        shown = recommend(clients, USE_CASE, subject, count=3)
        item = shown.items[0].item_id
        like = Interaction(
            interaction_id=name,
            use_case=USE_CASE,
            subject_id=subject,
            item_id=item,
            event_type="click",
            session_id=shown.session_id,
        )
        clients.feedback.RecordInteractions(
            feedback_pb.RecordInteractionsRequest(interactions=[like]), timeout=10
        )
        self.liked[name] = (item, shown.session_id, shown.release)


def promoted(stack: Stack, folder: Path) -> MlflowRegistry:
    """Register all releases; the champion is served when this returns."""
    registry = MlflowRegistry(stack.registry_uri)
    for seed, release in enumerate(RELEASES):
        built = build_release(folder / release, load_use_cases()[USE_CASE], release=release, seed=seed)
        known = registry.register(built, USE_CASE, run_id=None, metrics={})
        if release == "champion":
            registry.set_alias(USE_CASE, CHAMPION, known.version)
    return registry


def test_a_backup_brings_back_elsewhere_what_serves_and_all_that_was_acknowledged_before_it(
    stack: Stack, market: Market
) -> None:
    subjects = list(market.direction(USE_CASE).subject_ids[:2])
    with open_folder() as folder:
        registry = promoted(stack, folder / "built")
        with stack.clients() as clients:
            until(lambda: recommend(clients, USE_CASE, subjects[0]).release == "champion", "the champion")
        with Visitors(stack, subjects).visiting() as visitors:
            before = dict(visitors.liked)
            record, _ = back_up(stack.database_url, folder / "record", clock=utc_now)
            kept = registry_backup.back_up(registry, folder / "registry", clock=utc_now)
        assert visitors.failures == []
        assert not kept.left_out

        elsewhere = Stack(folder / "elsewhere", ports=Ports.free(), poll_seconds=0.2)
        with EmbeddedPostgres(elsewhere.folder / "postgres") as postgres:
            restore(postgres.url(), record)
        restored = MlflowRegistry(elsewhere.registry_uri)
        registry_backup.restore(restored, kept.index)
        assert all(str(stack.folder) not in known.source for known in restored.list(USE_CASE))
        with elsewhere, elsewhere.clients() as clients:
            serves_again(clients, visitors, before)


def reactions_of(clients: Clients, subject: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield id, item, session and release of each stored reaction."""
    asked = feedback_pb.ListInteractionsRequest(use_case=USE_CASE, subject_id=subject, page_size=1000)
    while True:
        page = clients.feedback.ListInteractions(asked, timeout=10)
        for one in page.interactions:
            yield (
                one.interaction.interaction_id,
                (one.interaction.item_id, one.interaction.session_id, one.release),
            )
        asked.page_token = page.next_page_token
        if not asked.page_token:
            return


def serves_again(clients: Clients, visitors: Visitors, before: dict[str, tuple[str, str, str]]) -> None:
    subject = visitors.subjects[0]
    until_recommended(clients, USE_CASE, subject)
    until(lambda: recommend(clients, USE_CASE, subject).release == "champion", "the champion, served again")
    stored = {name: told for each in visitors.subjects for name, told in reactions_of(clients, each)}
    assert before.items() <= stored.items() <= visitors.liked.items()
    name, (item, session, _) = next(reversed(before.items()))
    shown = clients.feedback.GetSession(feedback_pb.GetSessionRequest(session_id=session), timeout=10)
    assert item in [each.item_id for each in shown.session.items]
    again = Interaction(
        interaction_id=name,
        use_case=USE_CASE,
        subject_id=shown.session.subject_id,
        item_id=item,
        event_type="click",
        session_id=session,
    )
    request = feedback_pb.RecordInteractionsRequest(interactions=[again])
    assert clients.feedback.RecordInteractions(request, timeout=10).stored == 0
