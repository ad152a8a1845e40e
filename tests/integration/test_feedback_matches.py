"""ListMatches over gRPC, and the ledger made again from what is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import create_engine, text

from feedback_svc.interactions import Interaction
from feedback_svc.matches.__main__ import rebuild as rebuild_ledger
from feedback_svc.matches.ledger import Match, MatchFilter
from feedback_svc.migrate import continue_sequences, migrate
from feedback_svc.serving import build_server
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from matchloop.errors import MatchloopError, Reason
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import feedback_service_pb2_grpc, interaction_pb2, match_pb2
from matchloop.rpc.convert import timestamp
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.status import from_rpc_error
from playground.postgres import EmbeddedPostgres
from tests.feedback_worlds import (
    NOW,
    TO_THE_FIRST,
    USE_CASE,
    database_url,
    facts,
    postgres,
    server_folder,
    use_cases,
)

__all__ = ["database_url", "postgres", "server_folder"]

REVERSE = "startup_investor"


class Service:
    """A running service over a store in memory."""

    def __init__(self, stub: feedback_service_pb2_grpc.FeedbackServiceStub) -> None:
        self.stub = stub

    def list(self, **given: Any) -> calls.ListMatchesResponse:
        request = calls.ListMatchesRequest(**{"use_case": USE_CASE, **given})
        try:
            return self.stub.ListMatches(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error, upstream="feedback_svc") from error

    def tell(self, *reactions: Interaction) -> None:
        sent = [
            interaction_pb2.Interaction(
                interaction_id=each.interaction_id,
                use_case=each.use_case,
                subject_id=each.subject_id,
                item_id=each.item_id,
                event_type=each.event_type,
                event_time=timestamp(each.event_time),
            )
            for each in reactions
        ]
        self.stub.RecordInteractions(calls.RecordInteractionsRequest(interactions=sent), timeout=10)


@pytest.fixture
def service() -> Iterator[Service]:
    server = build_server(ServerSettings(threads=2), MemoryStore(), use_cases(), lambda: NOW).start()
    with grpc.insecure_channel(server.address) as channel:
        yield Service(feedback_service_pb2_grpc.FeedbackServiceStub(channel))
    server.stop()


def wants(number: int, investor: str, to: str, type_: str = "like", hours: float = 0) -> Interaction:
    return Interaction(f"f{number}", USE_CASE, investor, to, type_, NOW - timedelta(hours=hours))


def answers(number: int, investor: str, to: str, type_: str = "contact", hours: float = 0) -> Interaction:
    return Interaction(f"b{number}", REVERSE, to, investor, type_, NOW - timedelta(hours=hours))


def test_a_match_is_told_with_its_times(service: Service) -> None:
    service.tell(wants(1, "ann", "acme", hours=3))
    service.tell(answers(1, "ann", "acme", hours=2))
    service.tell(wants(2, "bo", "acme", "dislike", hours=1))
    assert list(service.list().matches) == [
        match_pb2.Match(
            use_case=USE_CASE,
            subject_id="bo",
            item_id="acme",
            state=match_pb2.MATCH_STATE_CLOSED,
            close_time=timestamp(NOW - timedelta(hours=1)),
            change_time=timestamp(NOW),
        ),
        match_pb2.Match(
            use_case=USE_CASE,
            subject_id="ann",
            item_id="acme",
            state=match_pb2.MATCH_STATE_RECIPROCATED,
            subject_time=timestamp(NOW - timedelta(hours=3)),
            item_time=timestamp(NOW - timedelta(hours=2)),
            change_time=timestamp(NOW),
        ),
    ]


def test_filters_and_pages(service: Service) -> None:
    service.tell(*[wants(n, f"i{n % 3}", f"s{n}") for n in range(12)])
    service.tell(*[answers(n, f"i{n % 3}", f"s{n}", "dislike" if n % 2 else "contact") for n in range(4)])
    whole = list(service.list().matches)
    assert len(whole) == 12
    walked: list[match_pb2.Match] = []
    token = ""
    while True:
        page = service.list(page_size=5, page_token=token)
        walked += page.matches
        token = page.next_page_token
        if not token:
            break
    assert walked == whole
    one = service.list(subject_id="i1").matches
    assert [match.item_id for match in one] == [m.item_id for m in whole if m.subject_id == "i1"]
    assert [match.subject_id for match in service.list(item_id="s7").matches] == ["i1"]
    for state, count in (
        (match_pb2.MATCH_STATE_ONE_SIDED, 8),
        (match_pb2.MATCH_STATE_RECIPROCATED, 2),
        (match_pb2.MATCH_STATE_CLOSED, 2),
    ):
        assert [match.state for match in service.list(state=state).matches] == [state] * count
    assert not service.list(subject_id="i1", item_id="s0").matches
    assert len(service.list(page_size=1001).matches) == 12


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"use_case": ""}, ["use_case"]),
        ({"use_case": "No Name"}, ["use_case"]),
        ({"use_case": "user_movie"}, ["use_case"]),
        ({"use_case": REVERSE, "page_size": -1}, ["use_case", "page_size"]),
        ({"subject_id": "x" * 129, "item_id": "a\nb"}, ["subject_id", "item_id"]),
        ({"state": 4}, ["state"]),
        ({"state": -1, "page_size": -1, "page_token": "zz"}, ["state", "page_size", "page_token"]),
    ],
)
def test_bad_input_names_every_field(service: Service, given: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(MatchloopError) as error:
        service.list(**given)
    assert error.value.reason is Reason.INVALID_INPUT
    assert sorted(v.field for v in error.value.violations) == sorted(fields)


def test_a_use_case_without_matches_is_told_which_have_some(service: Service) -> None:
    with pytest.raises(MatchloopError, match="developer_startup, investor_startup"):
        service.list(use_case="user_movie")
    with pytest.raises(MatchloopError, match=f"matches are those of `{USE_CASE}`"):
        service.list(use_case=REVERSE)


def test_a_token_is_of_its_request(service: Service) -> None:
    service.tell(*[wants(n, "ann", f"s{n}") for n in range(3)])
    token = service.list(page_size=2).next_page_token
    assert len(service.list(page_size=2, page_token=token).matches) == 1
    with pytest.raises(MatchloopError, match="page_token"):
        service.list(item_id="s1", page_token=token)
    assert service.list(subject_id="x" * 128, item_id="x" * 128).ByteSize() == 0


def ledger(store: Store) -> list[Match]:
    found = [stored.match for stored in store.list_matches(MatchFilter(USE_CASE), before=None, limit=9999)]
    return sorted(found, key=lambda match: (match.subject_id, match.item_id))


def mixed(count: int) -> list[Interaction]:
    """Interactions of both directions, some at the same time."""
    types = ["view", "like", "click", "dislike", "apply"]
    forward = [wants(n, f"i{n % 7}", f"s{n % 11}", types[n % 5], hours=n % 13) for n in range(count)]
    types = ["contact", "view", "dislike", "apply_received"]
    return forward + [
        answers(n, f"i{n % 5}", f"s{n % 17}", types[n % 4], hours=n % 3) for n in range(count // 2)
    ]


def rebuild(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("matches", url, *arguments)


def run(module: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"feedback_svc.{module}", *arguments],
        env=os.environ | {"FEEDBACK_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
def test_what_was_stored_before_the_ledger_is_added_by_a_rebuild(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback_svc.store.postgres.matches.READ", 50)
    sent = mixed(600)
    store = PostgresStore(Database(database_url, pool_size=1))
    for first in range(0, len(sent), 300):
        batch = sent[first : first + 300]
        store.record_interactions(batch, facts(batch), now=NOW)
    expected = ledger(store)
    store.close()
    migrate(database_url, revision=TO_THE_FIRST)
    told = run("migrate", database_url)
    assert told.returncode == 0, told.stderr
    assert "python -m feedback_svc.matches" in told.stdout
    store = PostgresStore(Database(database_url, pool_size=1))
    assert ledger(store) == []
    late = wants(9999, "i0", "s0", hours=-1)
    store.record_interactions([late], facts([late]), now=NOW)
    for arguments in (None, (), (USE_CASE,), ("--anew",)):
        if arguments is None:  # in small pages
            database = Database(database_url, pool_size=1)
            rebuild_ledger(database, use_cases(), [], anew=False)
            database.close()
        else:
            done = rebuild(database_url, *arguments)
            assert done.returncode == 0, done.stderr
        told_again = ledger(store)
        own = next(match for match in expected if (match.subject_id, match.item_id) == ("i0", "s0"))
        with_late = replace(own, subject=replace(own.subject, last=late.event_time))
        assert told_again == [with_late if match is own else match for match in expected]
    assert "matches" not in run("migrate", database_url).stdout
    store.close()


@pytest.mark.processes
def test_only_anew_forgets_what_no_longer_counts(database_url: str) -> None:
    store = PostgresStore(Database(database_url, pool_size=1))
    sent = [wants(1, "ann", "acme"), wants(2, "bo", "acme")]
    store.record_interactions(sent, facts(sent), now=NOW)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE interactions SET event_type = 'click' WHERE subject_id = 'ann'"))
    engine.dispose()
    before = store.list_matches(MatchFilter(USE_CASE), before=None, limit=9)
    assert rebuild(database_url, USE_CASE).returncode == 0
    assert store.list_matches(MatchFilter(USE_CASE), before=None, limit=9) == before
    assert rebuild(database_url, "developer_startup", "--anew").returncode == 0
    assert store.list_matches(MatchFilter(USE_CASE), before=None, limit=9) == before
    assert rebuild(database_url, USE_CASE, "--anew").returncode == 0
    assert [match.subject_id for match in ledger(store)] == ["bo"]
    store.close()


@pytest.mark.processes
def test_faults_of_the_command_are_told_in_a_line_each(database_url: str) -> None:
    wrong = rebuild(database_url, "user_movie", REVERSE)
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines() == [
        f"USE_CASES: `{name}` is not one of developer_startup, investor_startup"
        for name in ("user_movie", REVERSE)
    ]
    away = rebuild("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    assert (away.returncode, away.stderr.strip()) == (1, "the store cannot be reached")


@pytest.mark.processes
def test_a_service_from_before_the_ledger_can_still_record(
    database_url: str, postgres: EmbeddedPostgres
) -> None:
    """Its call names no roles: it counts as before, and a rebuild adds what it said."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT record_interactions('{a}', '{investor_startup}', '{ann}', '{acme}', '{like}',"
                " '{now}', '{\"\"}', '{t}', '{0}', '{1}', '{2.0}', '{86400}', now())"
            )
        )
    engine.dispose()
    store = PostgresStore(Database(database_url, pool_size=1))
    assert ledger(store) == []
    assert rebuild(database_url).returncode == 0
    assert [match.item_id for match in ledger(store)] == ["acme"]
    assert continue_sequences(database_url) >= 0
    store.close()
