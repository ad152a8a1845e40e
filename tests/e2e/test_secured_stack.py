"""The whole stack with everything on, as `up --secure` starts it: certificates of both sides, tokens."""

from __future__ import annotations

import re
import stat
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from rich.console import Console

from matchloop.acts import ActKind
from matchloop.candidate.v1.candidate_service_pb2 import ListTrendingRequest
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import EntityKey
from matchloop.errors import ScopeMissing
from matchloop.feedback.v1 import dislike_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.ranking.v1.ranking_service_pb2 import RecommendResponse
from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.tokens import entry, hash_of, new_token
from matchloop.usecase import load_use_cases
from playground.certificates import write_secret
from playground.clients import Addresses, Clients
from playground.load import load_market
from playground.local_security import HOLDERS, JOBS, LocalSecurity
from playground.market import Market
from playground.market.generated import Sizes
from tests.e2e.test_loop_by_hand import BUF
from tests.e2e.test_playground_up import up
from tests.e2e.waiting import recommend, until, until_recommended
from training_jobs.negatives import mark_negatives_used, retraining_status
from training_jobs.operations import Operations

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

USE_CASE = "developer_startup"


class Secured:
    """What `up --secure` printed, and a market in it."""

    def __init__(self, said: str, addresses: Mapping[str, str], folder: Path) -> None:
        self.said, self.folder = said, folder
        self.security = LocalSecurity(folder / "secrets")
        self.addresses = Addresses(
            *(addresses[name] for name in ("feedback_svc", "candidate_svc", "ranking_svc"))
        )
        sizes = Sizes(developers=30, investors=2, startups=40, events=3.0)
        made = Market.generated(load_use_cases(), seed=3, now=datetime.now(UTC), sizes=sizes)
        self.market = made.only((USE_CASE,))
        self.subjects = self.market.direction(USE_CASE).subject_ids

    def clients(self, name: str = "you") -> Clients:
        return Clients(self.addresses, credentials=self.security.credentials(name))

    def secret(self, name: str) -> Path:
        return self.folder / "secrets" / name

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted((self.folder / "logs").iterdir()))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured") / "data"
    with up(folder, "--free-ports", "--secure") as running:
        addresses = running.addresses()
        made = Secured(running.said, addresses, folder)
        with made.clients() as clients:
            load_market(clients, made.market, np.random.default_rng(3), Console(quiet=True))
            until_recommended(clients, USE_CASE, made.subjects[0])
        yield made
        running.process.terminate()
        assert running.ended() == 0, running.said


def test_a_list_passes_through_all_three_services(secured: Secured) -> None:
    with secured.clients() as clients:
        reply = until(lambda: whole(clients, secured.subjects[1]), "a reply with nothing degraded")
        disliked = reply.items[0].item_id
        told = dislike_pb2.Dislike(
            dislike_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=secured.subjects[1],
            item_id=disliked,
            reason="wrong_stage",
            session_id=reply.session_id,
        )
        clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=told), timeout=10)
        again = recommend(clients, USE_CASE, secured.subjects[1])
        assert disliked not in {item.item_id for item in again.items}


def whole(clients: Clients, subject: str) -> Any:
    found = recommend(clients, USE_CASE, subject)
    return None if found.degraded else found


def test_jobs_do_what_their_token_allows(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    address = secured.addresses.feedback
    for name, value in secured.security.calling(JOBS).items():
        monkeypatch.setenv(name, value)
    assert retraining_status(address, USE_CASE).unused_bound > 0
    with Operations(address) as operations, operations.lease("test", seconds=30):
        assert operations.record_act(USE_CASE, ActKind.PROMOTED, automatic=True, release="r", reason="test")
    assert mark_negatives_used(address, USE_CASE, "r", 10**9) >= 0
    assert (
        '"client": "jobs", "method": "/matchloop.operations.v1.OperationsService/RecordAct"' in secured.logs()
    )


def test_a_token_does_no_more_than_its_scopes(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = EntityKey(kind="developer", id=secured.subjects[2])
    with secured.clients("ranking_svc") as clients:  # read and feedback
        erase, retire = (
            catalog_pb.EraseEntityRequest(key=kept),
            catalog_pb.DeactivateEntitiesRequest(keys=[kept]),
        )
        used = feedback_pb.MarkNegativesUsedRequest(use_case=USE_CASE, release="r")
        for asking in (
            lambda: clients.catalog.EraseEntity(erase, timeout=5),
            lambda: clients.catalog.DeactivateEntities(retire, timeout=5),
            lambda: clients.feedback.MarkNegativesUsed(used, timeout=5),
        ):
            assert code_of(asking) is grpc.StatusCode.PERMISSION_DENIED
        assert clients.catalog.GetEntity(catalog_pb.GetEntityRequest(key=kept), timeout=5).entity.active
    for name, value in secured.security.calling("candidate_svc").items():  # read alone
        monkeypatch.setenv(name, value)
    with Operations(secured.addresses.feedback) as operations:
        assert operations.acts() is not None
        for act in (
            lambda: operations.record_act(USE_CASE, ActKind.ROLLED_BACK, automatic=False),
            lambda: operations.stop_experiment("e", reason="r"),
            lambda: operations.lease("l").__enter__(),
        ):
            with pytest.raises(ScopeMissing, match="lacks the scope admin"):
                act()


def test_without_credentials_nobody_is_let_in(secured: Secured) -> None:
    with Clients(secured.addresses, credentials=secured.security.credentials("feedback_svc")) as no_token:
        key = EntityKey(kind="developer", id=secured.subjects[3])
        for asking in (
            lambda: recommend(no_token, USE_CASE, secured.subjects[3]),
            lambda: no_token.candidate.ListTrending(ListTrendingRequest(use_case=USE_CASE), timeout=5),
            lambda: no_token.catalog.GetEntity(catalog_pb.GetEntityRequest(key=key), timeout=5),
        ):
            assert code_of(asking) is grpc.StatusCode.UNAUTHENTICATED
    with Clients(secured.addresses, credentials=ClientCredentials(ClientSettings())) as plain:
        unsecured = code_of(lambda: recommend(plain, USE_CASE, secured.subjects[3]))
        assert unsecured is grpc.StatusCode.UNAVAILABLE


def code_of(asking: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        asking()
    failure: Any = raised.value
    code: grpc.StatusCode = failure.code()
    return code


def test_a_service_s_token_changes_under_calls(secured: Secured) -> None:
    tokens, before = secured.secret("tokens.toml"), secured.secret("tokens.toml").read_text()
    replies: list[RecommendResponse] = []
    failures: list[str] = []
    enough = threading.Event()

    def ask() -> None:
        with secured.clients() as clients:
            while not enough.is_set():
                try:
                    replies.append(recommend(clients, USE_CASE, secured.subjects[4]))
                except grpc.RpcError as error:
                    failures.append(str(error))

    def go_on() -> None:
        asked = len(replies)
        until(lambda: len(replies) > asked + 10 or bool(failures), "more replies")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        new = new_token()
        mine = entry("ranking_svc", new, HOLDERS["ranking_svc"], None)
        write_secret(tokens, f"{before}\n{mine}".encode())
        go_on()
        write_secret(secured.secret("ranking_svc.token"), new.encode())
        go_on()
        without = re.sub(r'\[\[token\]\]\nname = "ranking_svc"\n[^[]*\[[^[]*', "", before)
        assert "ranking_svc" not in without
        write_secret(tokens, f"{without}\n{mine}".encode())
        go_on()
    finally:
        enough.set()
        asking.join(30)
    assert failures == []
    assert [reply.degraded for reply in replies if reply.degraded] == []


def test_what_is_printed_works_as_printed(secured: Secured) -> None:
    (line,) = re.findall(r"what is there: buf (.*)", secured.said)
    done = subprocess.run(f"{BUF} {line}", shell=True, capture_output=True, text=True, timeout=60, check=True)
    assert "matchloop.ranking.v1.RankingService" in done.stdout.split()
    for name, value in secured.security.calling().items():
        assert f"export {name}={value}\n" in secured.said


def test_nothing_secret_is_logged_or_readable_by_others(secured: Secured) -> None:
    logs = secured.logs()
    held = [file.read_text().strip() for file in secured.secret("").glob("*.token")]
    assert len(held) == len(HOLDERS)
    for token in held:
        assert token not in logs + secured.said
        assert hash_of(token) not in logs + secured.said
    for file in secured.secret("").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
