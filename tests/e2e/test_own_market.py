"""A market of one's own by the docs: declared, filled, asked, trained; what traces and logs tell of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import create_engine, text

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import Embedding, Entity, EntityKey, FeatureValue, Values
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.dislike_pb2 import Dislike
from matchloop.observe.tracing import ATTRIBUTES
from matchloop.ranking.v1.ranking_service_pb2 import RankItem, RankRequest, RecommendRequest
from playground.clients import Clients
from playground.stack import Ports, Stack
from tests.e2e.waiting import until
from tests.feedback_worlds import open_folder
from tests.integration.span_collector import CollectedSpan, CollectorProcess

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)```\n", re.DOTALL)
USE_CASE = "student_course"
CONFIG = """
[als]
factors = 8
iterations = 3
trials = [{ regularization = 10.0, alpha = 10.0 }]

[two_tower]
hidden = [16]
width = 16
epochs = 2
examples_per_epoch = 3000
threads = 1
"""
"""As little as passes the gates."""
MARK = "QZXMARK"
MARKED_NUMBER = 98765.4321
CALLER = "cd" * 8
SERVER = 2


def page(name: str, file: str) -> str:
    """Return a file that a page of the docs shows."""
    shown = {block["name"]: block["text"] for block in BLOCK.finditer((ROOT / "docs" / name).read_text())}
    return shown[file]


@dataclass(frozen=True)
class Market:
    """The running services, and who takes their traces."""

    stack: Stack
    collector: CollectorProcess
    clients: Clients
    folder: Path

    def run(self, script: str) -> str:
        """Run a script of the docs against these addresses; return what it printed."""
        addresses = self.stack.addresses
        for printed, real in (("7300", addresses.ranking), ("7301", addresses.feedback)):
            script = script.replace(f"127.0.0.1:{printed}", real)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def said(self) -> str:
        """Return everything that the services and PostgreSQL wrote into their logs."""
        logs = [*(self.folder / "logs").iterdir(), self.folder / "postgres" / "server.log"]
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def lines(self) -> list[dict[str, Any]]:
        """Return the services' lines, parsed; one that is no JSON fails the test."""
        logs = (self.folder / "logs").iterdir()
        return [json.loads(line) for log in logs for line in log.read_text().splitlines()]

    def query(self, statement: str) -> None:
        engine = create_engine(self.stack.database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with (
        open_folder() as folder,
        CollectorProcess(folder / "spans") as collector,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MATCHLOOP_TRACING_ENDPOINT", collector.endpoint)
        use_cases = folder / "use-cases"
        use_cases.mkdir()
        (use_cases / "student_course.toml").write_text(page("use-cases.md", "use-cases/student_course.toml"))
        with (
            Stack(
                folder / "stack", ports=Ports.free(), use_case_folders=(use_cases,), poll_seconds=0.5
            ) as stack,
            stack.clients() as clients,
        ):
            running = Market(stack, collector, clients, folder / "stack")
            assert "2400 reactions" in running.run(page("use-cases.md", "fill.py"))
            until(lambda: len(listed(running, "s0").items) == 5, "a full list")
            yield running


def listed(market: Market, subject: str, *, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Any:
    request = RecommendRequest(use_case=USE_CASE, subject_id=subject, count=5, **more)
    return market.clients.ranking.Recommend(request, timeout=10, metadata=headers)


def code_of(method: Any, request: Any, **options: Any) -> str:
    try:
        method(request, timeout=10, **options)
    except grpc.RpcError as error:
        failed: Any = error
        return str(failed.code().name)
    return "OK"


def paths(spans: list[CollectedSpan]) -> set[str]:
    """Return every span by who made it and what it is under, from the trace's root."""
    by_id = {span.id: span for span in spans}

    def path(span: CollectedSpan) -> str:
        above = by_id.get(span.parent)
        own = f"{span.service.removesuffix('_svc')}:{span.name.rpartition('/')[2]}"
        return f"{path(above)} > {own}" if above is not None else own

    return set(map(path, spans))


def test_a_list_is_one_trace_through_three_services(market: Market) -> None:
    def in_full() -> str | None:
        """Ask again where a busy machine let the session be spooled: it is stored outside the trace then."""
        trace = uuid.uuid4().hex
        reply = listed(market, "s1", headers=(("traceparent", f"00-{trace}-{CALLER}-01"),))
        return None if reply.degraded else trace

    trace = until(in_full, "a reply with nothing degraded")
    ask = "ranking:Recommend > ranking:candidates > ranking:GetCandidates > candidate:GetCandidates"
    keep = "ranking:Recommend > ranking:session > ranking:RecordSessions > feedback:RecordSessions"
    look = f"{ask} > candidate:LookupSubjectState > feedback:LookupSubjectState"
    wanted = {
        "ranking:Recommend > ranking:order",
        f"{ask} > candidate:content",
        f"{look} > feedback:SELECT subject_state",
        f"{keep} > feedback:SELECT record_sessions",
    }
    until(lambda: wanted <= paths(market.collector.of(trace)), "every span of the trace")
    found = market.collector.of(trace)
    assert {path.partition(" > ")[0] for path in paths(found)} == {"ranking:Recommend"}
    assert {span.parent for span in found} - {span.id for span in found} == {CALLER}
    assert not any(span.failed for span in found)
    assert {name for span in found for name in span.attributes} <= ATTRIBUTES
    assert len({span.attributes["matchloop.request_id"] for span in found if span.kind == SERVER}) == 1


def marked_student() -> Entity:
    features = {"interests": FeatureValue(multi=Values(values=[f"{MARK}-interest", "history"]))}
    return Entity(key=EntityKey(kind="student", id="told"), features=features)


def marked_course(number: int) -> Entity:
    features = {
        "title": FeatureValue(text=f"{MARK} title"),
        "subject": FeatureValue(categorical=f"{MARK}-subject"),
        "topics": FeatureValue(multi=Values(values=[f"{MARK}-interest"])),
        "hours": FeatureValue(numeric=MARKED_NUMBER),
    }
    return Entity(key=EntityKey(kind="course", id=f"told-{number}"), features=features)


def faulty_upserts() -> Iterator[catalog_pb.UpsertEntitiesRequest]:
    """Entities with every kind of mistake, each with a marked value in it."""
    values = (
        ("hours", FeatureValue(text=MARK)),
        ("title", FeatureValue(text=MARK * 5000)),
        ("title", FeatureValue(text=f"{MARK}\0")),
        ("topics", FeatureValue(multi=Values(values=[MARK, MARK]))),
        ("hours", FeatureValue(numeric=float("nan"))),
        ("title", FeatureValue(embedding=Embedding(values=[MARKED_NUMBER]))),
        (MARK.lower(), FeatureValue(text=MARK)),
    )
    for name, value in values:
        yield catalog_pb.UpsertEntitiesRequest(
            entities=[Entity(key=EntityKey(kind="course", id="faulty"), features={name: value})]
        )


def test_no_attribute_reaches_a_log_or_a_trace(market: Market) -> None:
    clients, header = market.clients, (("traceparent", f"00-{'ef' * 16}-{CALLER}-01"),)
    entities = [marked_student(), *(marked_course(number) for number in range(3))]
    clients.catalog.UpsertEntities(catalog_pb.UpsertEntitiesRequest(entities=entities), timeout=10)
    features = {"interests": FeatureValue(multi=Values(values=[f"{MARK}-asked"]))}
    until(
        lambda: "told-0" in {each.item_id for each in listed(market, "told", explain=True).items},
        "a list with a marked course",
    )
    shown = listed(market, "told", subject_features=features, explain=True)
    about: dict[str, Any] = {"use_case": USE_CASE, "subject_id": "told", "item_id": "told-0"}
    dislike = Dislike(dislike_id="told", reason="wrong_subject", comment=f"{MARK} comment", **about)
    clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=dislike), timeout=10)
    rank = RankRequest(
        use_case=USE_CASE, subject_id="told", items=[RankItem(item_id="told-1"), RankItem(item_id="told-2")]
    )
    clients.ranking.Rank(rank, timeout=10)
    assert shown.session_id

    codes = {
        code_of(clients.catalog.UpsertEntities, request, metadata=header) for request in faulty_upserts()
    }
    assert codes == {"INVALID_ARGUMENT"}
    wrong = {"interests": FeatureValue(text=f"{MARK} asked")}
    bad = RecommendRequest(use_case=USE_CASE, subject_id="told", subject_features=wrong)
    assert code_of(clients.ranking.Recommend, bad, metadata=header) == "INVALID_ARGUMENT"
    strange = Dislike(dislike_id="other", reason=MARK, comment=MARK, **about)
    request = feedback_pb.RecordDislikeRequest(dislike=strange)
    assert code_of(clients.feedback.RecordDislike, request) == "INVALID_ARGUMENT"

    upsert = catalog_pb.UpsertEntitiesRequest(entities=[marked_course(7)])
    market.query("ALTER TABLE entities RENAME TO entities_away")  # the statement fails with its values in it
    try:
        assert code_of(clients.catalog.UpsertEntities, upsert, metadata=header) == "UNAVAILABLE"
        degraded = listed(market, "told", headers=(*header, ("x-request-id", "told-1")))
        assert "feedback" in degraded.degraded
    finally:
        market.query("ALTER TABLE entities_away RENAME TO entities")

    def warned() -> list[dict[str, Any]]:
        return [line for line in market.lines() if line.get("request_id") == "told-1"]

    lines = until(warned, "what candidate_svc logged of the degraded list")
    assert {line["trace_id"] for line in lines} == {"ef" * 16}
    until(lambda: [span for span in market.collector.of("ef" * 16) if span.failed], "failed spans")
    said = market.said()
    assert "UNAVAILABLE" in said
    for mark in (MARK, str(MARKED_NUMBER)):
        assert mark.lower() not in said.lower()
        assert not any(mark.encode() in raw for raw in market.collector.raw)


def test_the_client_of_the_page_prints_what_the_page_says(market: Market) -> None:
    printed = market.run(page("clients.md", "client.py"))
    assert f"```\n{printed}```" in (ROOT / "docs" / "clients.md").read_text()


def test_the_use_case_is_trained_as_the_page_says(market: Market) -> None:
    config = market.folder / "small.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "training_jobs", "retrain", USE_CASE, "--config", str(config)]
    command += ["--use-cases", str(market.folder.parent / "use-cases"), "--work", str(market.folder / "work")]
    command += ["--feedback", market.stack.addresses.feedback, "--registry", market.stack.registry_uri]
    environment = os.environ | {
        "FEEDBACK_DATABASE_URL": market.stack.database_url,
        "MATCHLOOP_LOG_LEVEL": "INFO",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    release = re.search(r"(student_course-w\S+) is champion", done.stdout)
    assert release is not None, done.stdout
    until(lambda: listed(market, "s2").release == release[1], "the release in a reply")
    assert MARK.lower() not in (done.stdout + done.stderr).lower()
    runs = [span for span in market.collector.spans if span.name == "training_jobs retrain"]
    assert len(runs) == 1
    under = market.collector.of(runs[0].trace)
    assert {span.service for span in under} == {"training_jobs", "feedback_svc"}
    served = {span.attributes["matchloop.request_id"] for span in under if span.kind == SERVER}
    assert served == {runs[0].attributes["matchloop.request_id"]}
