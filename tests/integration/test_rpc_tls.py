"""Who connects to whom, over real connections: certificates of both sides, sound, unsound and replaced."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.errors import InvalidInput, Unavailable
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.tls import TlsFiles, server_credentials, watch
from playground.certificates import Authority, Issued, write_secret
from tests.integration.test_rpc_drain import Load
from tests.integration.test_rpc_server import poll, request
from tests.secured import Rig, Secrets, failed

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path)


@pytest.fixture
def mutual(secrets: Secrets) -> Iterator[Rig]:
    """TLS of both sides."""
    made = Rig(secrets, max_connection_seconds=1.0, **secrets.tls(clients_too=True))
    yield made
    made.close()


def test_only_clients_with_a_sound_certificate_are_let_in(mutual: Rig, tmp_path: Path) -> None:
    secrets, stranger = mutual.secrets, Authority(tmp_path / "stranger")
    known = secrets.authority.issue("client")
    assert mutual.stub(shown=known).GetEntity(request("echo"), timeout=5).entity.key.kind == "echo"
    shown: dict[str, Issued | None] = {
        "none": None,
        "expired": secrets.expired("late"),
        "of an unknown authority": stranger.issue("client"),
    }
    for what, certificate in shown.items():
        stub = mutual.stub(shown=certificate)
        failure = failed(lambda stub=stub: stub.GetEntity(request("echo"), timeout=5))  # type: ignore[misc]
        assert failure.code() is UNAVAILABLE, what
        with pytest.raises(Unavailable) as raised:
            call(stub.GetEntity, request("echo"), upstream="echo", most=5.0)
        assert str(raised.value) == "echo answered UNAVAILABLE"


def test_only_servers_with_a_sound_certificate_are_called(secrets: Secrets, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    shown = {
        "expired": secrets.expired("late-server"),
        "of an unknown authority": stranger.issue("server"),
        "of another host": secrets.authority.issue("elsewhere", hosts=["elsewhere.example"]),
    }
    for what, certificate in shown.items():
        paths = {"tls_cert_file": certificate.certificate, "tls_key_file": certificate.key}
        rig = Rig(secrets, **paths)
        try:
            failure = failed(lambda rig=rig: rig.stub().GetEntity(request("echo"), timeout=5))  # type: ignore[misc]
            assert failure.code() is UNAVAILABLE, what
        finally:
            rig.close()


def test_plain_and_secured_do_not_mix(mutual: Rig) -> None:
    with open_channel(mutual.server.address) as plain:
        failure = failed(lambda: pb_grpc.CatalogServiceStub(plain).GetEntity(request("echo"), timeout=5))
        assert failure.code() is UNAVAILABLE
    unsecured = Rig(mutual.secrets)
    try:
        assert failed(lambda: unsecured.stub().GetEntity(request("echo"), timeout=5)).code() is UNAVAILABLE
    finally:
        unsecured.close()


def test_certificates_and_authorities_change_under_calls(secrets: Secrets, mutual: Rig) -> None:
    """As operators do it: trust both authorities, issue of the new one, trust the new one alone."""
    trusted = secrets.authority.certificate
    old = secrets.authority.issue("old-client")
    shown = secrets.authority.issue("client")
    load = Load(pb_grpc.CatalogServiceStub(mutual.channel(secrets.credentials(shown=shown))), 2)

    def go_on() -> None:
        done = load.done
        poll(lambda: load.done > done + 20 or bool(load.failures))

    try:
        go_on()
        before = certificate_of(mutual)
        successor = Authority(secrets.folder, "successor")
        write_secret(trusted, trusted.read_bytes() + successor.certificate.read_bytes())
        go_on()
        for name in ("server", "client"):
            successor.issue(name)
            go_on()
        assert certificate_of(mutual) != before
        write_secret(trusted, successor.certificate.read_bytes())
        go_on()
        refused = mutual.stub(shown=old)
        assert failed(lambda: refused.GetEntity(request("echo"), timeout=5)).code() is UNAVAILABLE
    finally:
        load.stop()
    assert load.failures == []


def certificate_of(rig: Rig) -> str:
    return ssl.get_server_certificate(("127.0.0.1", rig.server.port))


def test_a_connection_does_not_outlive_its_certificate_for_long(secrets: Secrets, mutual: Rig) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    stub = mutual.stub(shown=secrets.authority.issue("brief", to_time=soon))
    stub.GetEntity(request("echo"), timeout=5)

    def refused() -> bool:
        try:
            stub.GetEntity(request("echo"), timeout=5)
        except grpc.RpcError as error:
            failure: Any = error
            return bool(failure.code() is UNAVAILABLE)
        return False

    poll(refused)
    assert datetime.now(UTC) >= soon


def test_a_certificate_that_cannot_be_used_leaves_the_one_before(secrets: Secrets, mutual: Rig) -> None:
    shown, key = certificate_of(mutual), secrets.server.key
    expiry = "matchloop_certificate_expiry_timestamp_seconds"
    assert mutual.server.metrics.value(expiry) > datetime.now(UTC).timestamp() + 300 * 86_400
    write_secret(key, secrets.authority.issue("other").key.read_bytes())
    assert certificate_of(mutual) == shown
    assert mutual.server.metrics.value("matchloop_secrets_refused_total", what="tls") == 1.0
    key.unlink()
    assert certificate_of(mutual) == shown
    secrets.authority.issue("server", to_time=datetime.now(UTC) + timedelta(days=1))
    assert certificate_of(mutual) != shown
    assert mutual.server.metrics.value(expiry) < datetime.now(UTC).timestamp() + 86_401


def test_what_has_not_changed_is_not_given_again(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC frees what it made of a configuration when it is given one, at the peril of other handshakes."""
    asked: list[Callable[[], grpc.ServerCertificateConfiguration | None]] = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda _given, ask, **_: asked.append(ask))
    server_credentials(watch(TlsFiles(secrets.server.certificate, secrets.server.key)))
    (ask,) = asked
    assert [ask(), ask()] == [None, None]
    secrets.authority.issue("server")
    assert ask() is not None
    assert ask() is None


@pytest.mark.parametrize("broken", ["key of another", "no key", "no certificate", "no authority"])
def test_a_server_does_not_start_with_what_cannot_be_used(secrets: Secrets, broken: str) -> None:
    settings = secrets.tls(clients_too=True)
    if broken == "key of another":
        settings["tls_key_file"] = secrets.authority.issue("other").key
    else:
        named = {
            "no key": "tls_key_file",
            "no certificate": "tls_cert_file",
            "no authority": "tls_client_ca_file",
        }
        settings[named[broken]].write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(InvalidInput) as raised:
        Rig(secrets, **settings)
    (violation,) = raised.value.violations
    assert violation.field == ServerSettings.variable("tls_*")
    assert str(secrets.folder) in violation.description
