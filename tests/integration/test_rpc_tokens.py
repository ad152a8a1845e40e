"""Who may call what, over real connections: tokens, scopes, rates; and what the refused are told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.errors import Reason
from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.status import DETAILS_KEY, from_rpc_error
from matchloop.rpc.tokens import Scope, hash_of
from tests.integration.echo_server import NAME
from tests.integration.test_rpc_drain import Load
from tests.integration.test_rpc_server import poll, request
from tests.secured import Rig, Secrets, failed

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def rig(secrets: Secrets) -> Iterator[Rig]:
    """TLS and tokens."""
    made = Rig(secrets, tokens_file=secrets.tokens_file, **secrets.tls())
    yield made
    made.close()


def told(failure: Any) -> bytes:
    """Return all that the server told the client."""
    metadata = failure.trailing_metadata() or ()
    details: str = failure.details()
    return details.encode() + b"".join(
        each.value if isinstance(each.value, bytes) else each.value.encode() for each in metadata
    )


def test_without_a_valid_token_nobody_knows_who_calls(rig: Rig) -> None:
    secrets = rig.secrets
    valid = secrets.token("shop", Scope.READ)
    assert rig.stub(valid).GetEntity(request("echo"), timeout=5).entity.key.kind == "echo"
    expired = secrets.expired_token("late")
    unknown = "matchloop_" + "x" * 43
    for token, why, client, message in (
        (None, "no_token", "", "a token is needed: authorization: Bearer TOKEN"),
        (unknown, "unknown_token", "", "the token is not valid"),
        (hash_of(valid), "unknown_token", "", "the token is not valid"),
        (expired, "expired_token", "late", "the token has expired"),
    ):
        before = rig.refused(why, client)
        failure = failed(lambda token=token: rig.stub(token).GetEntity(request("echo"), timeout=5))  # type: ignore[misc]
        assert (failure.code(), failure.details()) == (UNAUTHENTICATED, message)
        assert from_rpc_error(failure, upstream="echo").reason is Reason.UNAUTHENTICATED
        assert rig.refused(why, client) == before + 1.0
        holds_nothing(failure, rig, "late", *filter(None, [token, token and hash_of(token)]))


def test_a_token_allows_its_scopes_and_nothing_else(rig: Rig) -> None:
    calls: dict[Scope, Callable[[Any], object]] = {
        Scope.READ: lambda stub: stub.ListEntities(pb.ListEntitiesRequest(), timeout=5),
        Scope.CATALOGUE: lambda stub: stub.UpsertEntities(pb.UpsertEntitiesRequest(), timeout=5),
        Scope.ADMIN: lambda stub: stub.EraseEntity(pb.EraseEntityRequest(), timeout=5),
    }
    for held, asked in itertools.product(Scope, calls):
        stub = rig.stub(rig.secrets.token(f"only-{held}", held))
        failure = failed(lambda stub=stub, asked=asked: calls[asked](stub))  # type: ignore[misc]
        if held is asked:
            assert failure.code() is grpc.StatusCode.UNIMPLEMENTED  # let in: the servicer was asked
        else:
            assert (failure.code(), failure.details()) == (
                PERMISSION_DENIED,
                f"the token lacks the scope {asked}",
            )
            assert from_rpc_error(failure, upstream="echo").reason is Reason.SCOPE_MISSING
            holds_nothing(failure, rig, f"only-{held}")
    assert rig.refused("scope", "only-feedback", "EraseEntity") == 1.0


def holds_nothing(failure: Any, rig: Rig, *secret: str) -> None:
    """A refusal tells what a program needs, and nothing of whom or what the server knows."""
    said = told(failure)
    for each in (*secret, str(rig.secrets.folder), "tokens.toml", "Traceback", ".py", rig.server.address):
        assert each.encode() not in said
    status = rpc_status.from_call(failure)
    (detail,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert not info.metadata
    assert {each.key for each in failure.trailing_metadata()} == {DETAILS_KEY, "x-request-id"}


def test_what_is_no_method_tells_nothing_to_who_holds_no_token(rig: Rig) -> None:
    secrets = rig.secrets
    for method in (f"/{NAME}/DropEverything", "/other.Service/Method", "/"):
        calling: Any = rig.channel(secrets.credentials()).unary_unary(method)
        assert failed(lambda calling=calling: calling(b"", timeout=5)).code() is UNAUTHENTICATED  # type: ignore[misc]
    everything = rig.channel(secrets.credentials(secrets.token("all", *Scope)))
    undefined: Any = everything.unary_unary(f"/{NAME}/DropEverything")
    failure = failed(lambda: undefined(b"", timeout=5))
    assert (failure.code(), failure.details()) == (PERMISSION_DENIED, "no token allows to call this")
    assert rig.refused("no_token", method="") >= 3.0


def test_a_token_is_read_as_rfc_6750_writes_it(rig: Rig) -> None:
    token = rig.secrets.token("plain", Scope.READ)
    bare = pb_grpc.CatalogServiceStub(rig.channel(rig.secrets.credentials()))
    for header in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token}"):
        bare.GetEntity(request("echo"), timeout=5, metadata=(("authorization", header),))
    for header in (token, f"Basic {token}", "Bearer", "Bearer ", ""):
        failure = failed(
            lambda header=header: bare.GetEntity(  # type: ignore[misc]
                request("echo"), timeout=5, metadata=(("authorization", header),)
            )
        )
        assert failure.code() is UNAUTHENTICATED


def test_probes_need_no_token_and_reflection_needs_any(rig: Rig) -> None:
    nobody = rig.channel(rig.secrets.credentials())
    health = health_pb2_grpc.HealthStub(nobody)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
    assert next(health.Watch(health_pb2.HealthCheckRequest(), timeout=5)).status == 1

    def services(channel: grpc.Channel) -> set[str]:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (reply,) = stub.ServerReflectionInfo(iter([ask]), timeout=5)
        return {each.name for each in reply.list_services_response.service}

    assert failed(lambda: services(nobody)).code() is UNAUTHENTICATED
    someone = rig.secrets.credentials(rig.secrets.token("curious", Scope.FEEDBACK))
    assert NAME in services(rig.channel(someone))


def test_who_is_refused_cannot_hold_up_others_by_sending_nothing(rig: Rig) -> None:
    """A refusal waits for no request: calls that never send one take no thread."""
    ended = threading.Event()

    def nothing() -> Iterator[bytes]:
        ended.wait(30)
        yield b""

    nobody = rig.channel(rig.secrets.credentials())
    calling: Any = nobody.stream_unary(f"/{NAME}/GetEntity")
    try:
        calls: list[Any] = [calling.future(nothing(), timeout=20) for _ in range(20)]
        assert {each.exception(timeout=10).code() for each in calls} == {UNAUTHENTICATED}
    finally:
        ended.set()


def test_tokens_change_under_calls(rig: Rig) -> None:
    secrets = rig.secrets
    old = secrets.token("rotating", Scope.READ)
    held = secrets.folder / "held.token"
    held.write_text(f"{old}\n")
    client = ClientCredentials(ClientSettings(ca_file=secrets.authority.certificate, token_file=held))
    load = Load(pb_grpc.CatalogServiceStub(rig.channel(client)), 2)

    def go_on() -> None:
        done = load.done
        poll(lambda: load.done > done + 20)

    go_on()
    new = secrets.token("rotating", Scope.READ)  # both are let in
    held.write_text(f"{new}\n")
    go_on()
    secrets.take_back(old)
    go_on()
    load.stop()
    assert load.failures == []
    assert failed(lambda: rig.stub(old).GetEntity(request("echo"), timeout=5)).code() is UNAUTHENTICATED


def test_a_tokens_file_that_cannot_be_used_changes_nothing(rig: Rig) -> None:
    secrets = rig.secrets
    token = secrets.token("steady", Scope.READ)
    stub = rig.stub(token)
    stub.GetEntity(request("echo"), timeout=5)
    before = rig.server.metrics.value("matchloop_secrets_refused_total", what="tokens")
    for content in ("[[token]\n", '[[token]]\nname = "x"\n', "\udcff"):
        secrets.tokens_file.write_text(content, errors="surrogateescape")
        stub.GetEntity(request("echo"), timeout=5)
    assert rig.server.metrics.value("matchloop_secrets_refused_total", what="tokens") == before + 3.0
    secrets.take_back(token)  # writes a sound file: it is heeded at once
    assert failed(lambda: stub.GetEntity(request("echo"), timeout=5)).code() is UNAUTHENTICATED


def test_each_client_has_a_rate_of_its_own(secrets: Secrets) -> None:
    rig = Rig(
        secrets, tokens_file=secrets.tokens_file, rate_per_client=0.5, burst_per_client=3, **secrets.tls()
    )
    try:
        hasty, other = (
            rig.stub(secrets.token("hasty", Scope.READ)),
            rig.stub(secrets.token("other", Scope.READ)),
        )
        for _ in range(3):
            hasty.GetEntity(request("echo"), timeout=5)
        failure = failed(lambda: hasty.GetEntity(request("echo"), timeout=5))
        assert (failure.code(), failure.details()) == (EXHAUSTED, "this client may make 0.5 calls a second")
        assert from_rpc_error(failure, upstream="echo").reason is Reason.RATE_EXCEEDED
        assert 0.0 < retry_delay(failure) <= 2.0
        again = rig.stub(secrets.token("hasty", Scope.READ))  # another token of the same client
        assert failed(lambda: again.GetEntity(request("echo"), timeout=5)).code() is EXHAUSTED
        other.GetEntity(request("echo"), timeout=5)
        health = health_pb2_grpc.HealthStub(rig.channel(secrets.credentials()))
        assert [health.Check(health_pb2.HealthCheckRequest(), timeout=5).status for _ in range(9)] == [1] * 9
        service = rig.stub(secrets.token("service", Scope.READ, more="rate = 0\n"))  # any number
        for _ in range(9):
            service.GetEntity(request("echo"), timeout=5)
        assert rig.refused("rate", "hasty") == 2.0
    finally:
        rig.close()


def test_without_tokens_a_client_is_an_address(secrets: Secrets) -> None:
    rig = Rig(secrets, rate_per_client=0.01, **secrets.tls())
    try:
        rig.stub().GetEntity(request("echo"), timeout=5)
        failure = failed(lambda: rig.stub().GetEntity(request("echo"), timeout=5))  # another connection
        assert failure.code() is EXHAUSTED
        assert retry_delay(failure) > 90.0
        assert rig.refused("rate") == 1.0
    finally:
        rig.close()


def retry_delay(failure: Any) -> float:
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(failure).details)
    delay: Duration = retry.retry_delay
    return delay.ToMilliseconds() / 1000
