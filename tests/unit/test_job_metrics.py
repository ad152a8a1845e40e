"""What a job tells when it ends: whether it failed; a failure hides nothing of the last success."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer

from matchloop.errors import Unavailable
from matchloop.observe.job_metrics import ADDRESS, JobMetrics, told_job
from matchloop.observe.metrics import Metrics
from playground.processes import free_port
from tests.pushes import Pushes, pushes

SUCCESS = ("matchloop_job_last_success_timestamp_seconds", ())
FAILED, CODE = ("matchloop_job_failed", ()), ("matchloop_job_exit_code", ())
GATE = ("matchloop_gate_value", ("gate=size",))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushes]:
    with pushes() as running:
        monkeypatch.setenv(ADDRESS, running.url)
        yield running


def ended(code: int, fine: tuple[int, ...] = (0,)) -> None:
    with pytest.raises(typer.Exit), told_job("retrain", "u_v", fine=fine):
        raise typer.Exit(code)


def test_a_failure_leaves_when_it_last_succeeded_and_what_came_of_that(gateway: Pushes) -> None:
    with told_job("retrain", "u_v") as metrics:
        metrics.gate_value.labels("size").set(3.5)
    told = gateway.of("matchloop-retrain", "u_v")
    succeeded = told[SUCCESS]
    assert (told[FAILED], told[CODE], told[GATE]) == (0.0, 0.0, 3.5)
    ended(5)
    told = gateway.of("matchloop-retrain", "u_v")
    assert (told[FAILED], told[CODE], told[GATE], told[SUCCESS]) == (1.0, 5.0, 3.5, succeeded)


def test_a_verdict_is_no_failure(gateway: Pushes) -> None:
    ended(3, fine=(0, 3))
    told = gateway.of("matchloop-retrain", "u_v")
    assert (told[FAILED], told[CODE]) == (0.0, 3.0)
    assert told[SUCCESS] > 1e9


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("away"), 2.0), (RuntimeError("bug"), 1.0), (SystemExit("why"), 1.0), (SystemExit(7), 7.0)],
)
def test_whatever_ends_it_goes_on_and_is_told(gateway: Pushes, error: BaseException, code: float) -> None:
    with pytest.raises(type(error)), told_job("export"):
        raise error
    told = gateway.of("matchloop-export")
    assert (told[FAILED], told[CODE]) == (1.0, code)
    assert SUCCESS not in told


def test_a_gateway_that_is_away_or_misspelt_costs_the_job_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (f"http://127.0.0.1:{free_port()}", "http://[", "nowhere://x"):
        monkeypatch.setenv(ADDRESS, address)
        with told_job("export") as metrics:
            metrics.snapshot_rows.labels("entities").set(1)
    ended(4)


def test_the_table_is_well_formed_and_shares_no_name_with_the_services() -> None:
    names = [row.name for row in JobMetrics.table()]
    assert len({*names, *(row.name for row in Metrics.table())}) == len(names) + len(Metrics.table())
    for row in JobMetrics.table():
        assert re.fullmatch(r"matchloop_[a-z_]+", row.name)
        assert row.help.endswith(".")
