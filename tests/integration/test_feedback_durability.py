"""Acknowledged means kept: the service dies at any moment, nothing acknowledged is lost or doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from feedback_svc.sessions import RecordFilter
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.feedback.v1 import feedback_service_pb2, feedback_service_pb2_grpc, interaction_pb2
from tests.feedback_worlds import USE_CASE

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
BEFORE_THE_KILL = 40
CLIENTS = 2


def start(url: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "feedback_svc"],
        cwd=ROOT,
        env=os.environ
        | {"FEEDBACK_DATABASE_URL": url, "FEEDBACK_LOG_LEVEL": "ERROR", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, str(json.loads(process.stdout.readline())["address"])


def end(process: subprocess.Popen[str], signal: str) -> None:
    getattr(process, signal)()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


class Recorder(threading.Thread):
    """Records batches of 3 until the service is gone; keeps what was sent and what was acknowledged."""

    def __init__(self, name: str, address: str, warm: threading.Semaphore) -> None:
        super().__init__()
        self._prefix, self._address, self._warm = name, address, warm
        self.sent: list[str] = []
        self.acknowledged: list[str] = []

    def run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            for number in range(100_000):
                ids = [f"{self._prefix}{number}-{part}" for part in range(3)]
                self.sent += ids
                try:
                    record(stub, ids)
                except grpc.RpcError:
                    return
                self.acknowledged += ids
                self._warm.release()


def record(stub: feedback_service_pb2_grpc.FeedbackServiceStub, ids: list[str]) -> int:
    interactions = [
        interaction_pb2.Interaction(
            interaction_id=id_, use_case=USE_CASE, subject_id="s", item_id="i", event_type="click"
        )
        for id_ in ids
    ]
    request = feedback_service_pb2.RecordInteractionsRequest(interactions=interactions)
    return int(stub.RecordInteractions(request, timeout=10).stored)


def test_kill_while_recording_loses_and_doubles_nothing(database_url: str) -> None:
    process, address = start(database_url)
    warm = threading.Semaphore(0)
    clients = [Recorder(f"c{n}-", address, warm) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in range(BEFORE_THE_KILL):
        assert warm.acquire(timeout=30)
    end(process, "kill")
    for client in clients:
        client.join(30)
    process, address = start(database_url)
    sent = [id_ for client in clients for id_ in client.sent]
    acknowledged = {id_ for client in clients for id_ in client.acknowledged}
    store = PostgresStore(Database(database_url, pool_size=1))
    kept = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=10 * len(sent))
    store.close()
    found = [k.interaction.interaction_id for k in kept]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found) <= set(sent)
    with grpc.insecure_channel(address) as channel:
        stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        again = sum(record(stub, sent[first : first + 300]) for first in range(0, len(sent), 300))
        assert again == len(sent) - len(found)
        lookup = feedback_service_pb2.LookupSubjectStateRequest(use_case=USE_CASE, subject_id="s")
        assert stub.LookupSubjectState(lookup).state.interaction_count == len(sent)
    end(process, "terminate")
    assert process.returncode == 0


def test_faulty_settings_are_told_in_a_line_each() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FEEDBACK_")}
    for module in ("feedback_svc", "feedback_svc.migrate", "feedback_svc.export"):
        arguments = ["--out", "unused"] if module.endswith("export") else []
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "FEEDBACK_DATABASE_URL" in done.stderr
        assert "Traceback" not in done.stderr
