"""Metrics come from one table; logs are JSON and hold no attributes."""

from __future__ import annotations

import io
import json
import logging
import re
import urllib.request
from contextvars import Context
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from matchloop.entities import Entity, EntityId, EntityKey, Kind, Text
from matchloop.errors import InvalidInput, NotFound, Unavailable, Violation
from matchloop.observe import faults, logs
from matchloop.observe.exporter import Exporter
from matchloop.observe.metrics import Metrics

if TYPE_CHECKING:
    pass


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_table_is_well_formed() -> None:
    table = Metrics.table()
    assert len({row.name for row in table}) == len(table)
    for row in table:
        assert re.fullmatch(r"matchloop_[a-z_]+", row.name)
        assert row.help.endswith(".")
        assert not {"id", "subject", "item", "subject_id", "item_id"} & set(row.labels)


def test_two_sets_live_side_by_side_and_one_registry_takes_one() -> None:
    first, second = Metrics(), Metrics()
    first.dislikes.labels("user_movie", "wrong_genre").inc()
    name = "matchloop_dislikes_total"
    assert first.value(name, use_case="user_movie", reason="wrong_genre") == 1.0
    assert second.value(name, use_case="user_movie", reason="wrong_genre") == 0.0
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_the_exporter_shows_them_and_stops() -> None:
    metrics = Metrics()
    metrics.spool_depth.set(3)
    exporter = Exporter(metrics)
    url = f"http://127.0.0.1:{exporter.port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        assert "matchloop_spool_depth 3.0" in reply.read().decode()
    exporter.stop()
    exporter.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_lines_are_json_with_the_request_id(stream: io.StringIO) -> None:
    logs.configure_logging("INFO", service="echo", stream=stream)

    def serve() -> None:
        logs.request_id.set("r-1")
        logs.get_logger().info("served", count=3)
        logging.getLogger("library").warning("from %s", "outside")

    Context().run(serve)
    logs.get_logger().debug("hidden")
    logs.get_logger().info("later")
    first, second, third = lines(stream)
    assert (first["event"], first["count"], first["request_id"]) == ("served", 3, "r-1")
    assert (first["service"], first["level"]) == ("echo", "info")
    assert (second["event"], second["logger"], second["request_id"]) == ("from outside", "library", "r-1")
    assert "request_id" not in third


def test_attributes_never_reach_the_log(stream: io.StringIO) -> None:
    logs.configure_logging(stream=stream)
    entity = Entity(EntityKey(Kind("investor"), EntityId("i1")), {"bio": Text("SECRET")})
    log = logs.get_logger()
    log.info("a", thing=entity, features="SECRET", nested={"k": "SECRET"}, rows=[{"SECRET": 1}], n=["a", 1])
    log.info("b", long="x" * 10_000, many=["SECRET"] * 1000)
    assert "SECRET" not in stream.getvalue()
    first, second = lines(stream)
    assert (first["thing"], first["features"], first["n"]) == ("<Entity>", "<str>", ["a", 1])
    assert len(str(second["long"])) < 600


def test_tracebacks_are_text_without_locals(stream: io.StringIO) -> None:
    logs.configure_logging(stream=stream)

    def fail(hidden: str) -> None:
        try:
            float(hidden)
        except ValueError as error:
            raise NotFound("no session `s1` is stored") from error

    try:
        fail("SECRET" * 2)
    except NotFound:
        logs.get_logger().exception("failed")
        logging.getLogger("library").exception("failed")
    for line in lines(stream):
        told = str(line["exception"])
        assert told.index("ValueError: (message withheld)") < told.index(
            "NotFound: no session `s1` is stored"
        )
        assert "float(hidden)" in told
        assert "SECRETSECRET" not in str(line)


def test_of_an_error_a_log_says_what_holds_no_data() -> None:
    violations = [Violation('entities[0].features["SECRET"]', "is SECRET"), Violation("count", "is -1")]
    assert faults.said(InvalidInput.of(violations)) == "entities[0].features, count"
    assert faults.said(InvalidInput("SECRET")) == faults.WITHHELD
    assert faults.said(Unavailable("the store cannot be reached")) == "the store cannot be reached"
    assert faults.said(FileNotFoundError(2, "No such file", "/var/x")) == "No such file: /var/x"
    assert faults.said(TimeoutError("SECRET")) == faults.said(KeyError("SECRET")) == faults.WITHHELD
    refused = ValueError("SECRET")
    refused.pgcode = "23505"  # type: ignore[attr-defined]
    assert faults.said(refused) == "SQLSTATE 23505 (message withheld)"


def test_an_error_that_came_of_itself_is_told_once() -> None:
    first, second = ValueError(), KeyError()
    first.__context__, second.__context__ = second, first
    assert faults.told(first).count("Traceback") == 2


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure_logging("LOUD")
