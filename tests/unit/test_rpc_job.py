"""A job's run is one request: its lines and its calls bear one id, and its settings are told when faulty."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from matchloop.errors import Unavailable
from matchloop.observe import logs
from matchloop.rpc.channel import request_metadata
from matchloop.rpc.job import job
from matchloop.rpc.status import REQUEST_ID_KEY

if TYPE_CHECKING:
    pass


def test_lines_and_calls_of_a_run_bear_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    sent = []
    for _ in range(2):
        with job("training_jobs", "retrain"):
            logs.get_logger().warning("told")
            logs.get_logger().info("not told unless asked for")
            ((key, value),) = request_metadata()
            assert key == REQUEST_ID_KEY
            sent.append(value)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["service"]) for line in lines] == [("told", "training_jobs")] * 2
    assert [line["request_id"] for line in lines] == sent
    assert len(set(sent)) == 2
    assert request_metadata() == ()


def test_a_bug_ends_a_run_with_a_line_and_without_what_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, job("training_jobs", "retrain"):
        float("SECRET-7")
    assert ended.value.code == 1
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["command"], line["level"]) == ("job_failed", "retrain", "error")
    assert "ValueError: (message withheld)" in line["exception"]
    with pytest.raises(Unavailable), job("training_jobs", "retrain"):
        raise Unavailable("told by the command itself")
    assert capsys.readouterr().err == ""


def test_faulty_settings_end_a_command_with_the_variable_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATCHLOOP_LOG_LEVEL", "LOUD")
    done = subprocess.run(
        [sys.executable, "-m", "feedback_svc.retention"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "MATCHLOOP_LOG_LEVEL" in done.stderr
    assert "Traceback" not in done.stderr
