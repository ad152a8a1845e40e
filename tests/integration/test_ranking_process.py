"""ranking_svc as a process: kill -9 with sessions in the spool loses none of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from matchloop.errors import Unavailable
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.ranking.v1 import ranking_service_pb2_grpc
from matchloop.rpc.channel import call, open_channel
from playground.processes import free_port
from tests.integration.ranking_neighbours import (
    make_candidates,
    make_feedback,
    serve_candidates,
    serve_feedback,
)
from tests.ranking_world import MOVIE, until

pytestmark = pytest.mark.processes

COUNT = 40


class Process:
    """``python -m ranking_svc``, ready when constructed."""

    def __init__(self, folder: Path, **settings: str) -> None:
        own = {
            "state_folder": str(folder),
            "session_timeout_seconds": "0.3",
            "popular_refresh_seconds": "0.1",
            **settings,
        }
        self._log = (folder / "log").open("ab")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "ranking_svc"],
            env={**os.environ, **{f"RANKING_{name.upper()}": value for name, value in own.items()}},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, (folder / "log").read_text()
        self._channel = open_channel(json.loads(line)["address"])
        self.stub = ranking_service_pb2_grpc.RankingServiceStub(self._channel)

    def recommend(self, **fields: Any) -> pb.RecommendResponse:
        request = pb.RecommendRequest(use_case=MOVIE.id, subject_id="u1", **fields)
        return call(self.stub.Recommend, request, upstream="ranking_svc")

    def end(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end, return the exit code."""
        self._child.send_signal(number)
        code = self._child.wait(20)
        self._channel.close()
        self._log.close()
        assert self._child.stdout is not None
        self._child.stdout.close()
        return code


def test_kill_9_with_sessions_in_the_spool_loses_none(tmp_path: Path) -> None:
    candidates, feedback = make_candidates(), make_feedback()
    at_candidates = serve_candidates(candidates)
    store_port = free_port()
    addresses = {
        "candidate_address": at_candidates.address,
        "feedback_address": f"127.0.0.1:{store_port}",
    }
    first = Process(tmp_path, **addresses)
    replies = [first.recommend(count=3) for _ in range(COUNT)]
    assert {tuple(reply.degraded) for reply in replies} == {("session_store",)}
    first.end(signal.SIGKILL)

    at_feedback = serve_feedback(feedback, store_port)
    second = Process(tmp_path, **addresses)
    until(lambda: len(feedback.sessions) >= COUNT, seconds=20)
    assert list(feedback.sessions) == [reply.session_id for reply in replies]
    for reply in replies:
        stored = feedback.sessions[reply.session_id]
        assert [item.item_id for item in stored.items] == [item.item_id for item in reply.items]
    until(lambda: list(second.recommend().degraded) == [])
    delivered = feedback.deliveries
    assert second.end(signal.SIGTERM) == 0
    assert list((tmp_path / "spool").glob("*.spool")) == []

    # Nothing comes again after another restart.
    third = Process(tmp_path, **addresses)
    assert list(third.recommend().degraded) == []
    assert feedback.deliveries == delivered + 1
    assert third.end(signal.SIGTERM) == 0
    at_candidates.stop()
    at_feedback.stop()


def test_sigterm_delivers_or_keeps_what_waits(tmp_path: Path) -> None:
    candidates, feedback = make_candidates(), make_feedback()
    feedback.fault = Unavailable("away")
    at_candidates, at_feedback = serve_candidates(candidates), serve_feedback(feedback)
    addresses = {"candidate_address": at_candidates.address, "feedback_address": at_feedback.address}
    first = Process(tmp_path, **addresses)
    kept = first.recommend()
    assert first.end(signal.SIGTERM) == 0
    assert len(list((tmp_path / "spool").glob("*.spool"))) == 1
    feedback.fault = None
    second = Process(tmp_path, **addresses)
    until(lambda: kept.session_id in feedback.sessions, seconds=20)
    assert second.end(signal.SIGTERM) == 0
    at_candidates.stop()
    at_feedback.stop()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"RANKING_CANDIDATE_ADDRESS": "x", "RANKING_RELEASE_POLL_SECONDS": "-1"},
            "RANKING_RELEASE_POLL_SECONDS",
        ),
        ({"RANKING_CANDIDATE_ADDRESS": "x"}, "RANKING_FEEDBACK_ADDRESS"),
    ],
)
def test_faulty_settings_are_all_named(settings: dict[str, str], named: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ranking_svc"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_never_share_a_spool(tmp_path: Path) -> None:
    addresses = {"candidate_address": "127.0.0.1:9", "feedback_address": "127.0.0.1:9"}
    first = Process(tmp_path, **addresses)
    done = subprocess.run(
        [sys.executable, "-m", "ranking_svc"],
        env={
            **os.environ,
            "RANKING_CANDIDATE_ADDRESS": "127.0.0.1:9",
            "RANKING_FEEDBACK_ADDRESS": "127.0.0.1:9",
            "RANKING_SPOOL_FOLDER": str(tmp_path / "spool"),
            "RANKING_CACHE_FOLDER": str(tmp_path / "cache2"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "another process" in done.stderr) == (2, True)
    with pytest.raises(Unavailable):
        first.recommend()
    first.end(signal.SIGTERM)
