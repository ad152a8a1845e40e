"""Certificates and tokens for tests, and a server that asks for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.rpc.channel import open_channel
from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.server import Server
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.tokens import Scope, entry, new_token
from playground.certificates import Authority, Issued, write_secret
from tests.integration.echo_server import NAME, make_echo, service


class Secrets:
    """An authority, a server's certificate and a tokens file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.server = self.authority.issue("server")
        self.tokens_file = folder / "tokens.toml"
        self._entries: dict[str, str] = {}
        self._write()

    def tls(self, *, clients_too: bool = False) -> dict[str, Path]:
        """Return a server's settings."""
        found = {"tls_cert_file": self.server.certificate, "tls_key_file": self.server.key}
        return {**found, "tls_client_ca_file": self.authority.certificate} if clients_too else found

    def token(self, name: str, *scopes: Scope, expires: datetime | None = None, more: str = "") -> str:
        """Make a token and let it in; `more` are further lines of its entry."""
        token = new_token()
        self._entries[token] = entry(name, token, frozenset(scopes), expires) + more
        self._write()
        return token

    def expired_token(self, name: str) -> str:
        """Make one that was valid for everything until a minute ago."""
        return self.token(name, *Scope, expires=datetime.now(UTC) - timedelta(minutes=1))

    def take_back(self, token: str) -> None:
        """Let it in no more."""
        del self._entries[token]
        self._write()

    def _write(self) -> None:
        write_secret(self.tokens_file, "\n".join(self._entries.values()).encode())

    def expired(self, name: str) -> Issued:
        """Return a certificate that ended a minute ago."""
        now = datetime.now(UTC)
        return self.authority.issue(
            name, from_time=now - timedelta(days=2), to_time=now - timedelta(minutes=1)
        )

    def credentials(
        self, token: str | None = None, *, shown: Issued | None = None, authority: Path | None = None
    ) -> ClientCredentials:
        """Return what a client shows."""
        return ClientCredentials(
            ClientSettings.model_validate(
                {
                    "ca_file": authority or self.authority.certificate,
                    "cert_file": shown.certificate if shown else None,
                    "key_file": shown.key if shown else None,
                    "token": token,
                }
            )
        )


class Rig:
    """A server and clients with different credentials."""

    def __init__(self, secrets: Secrets, **settings: Any) -> None:
        self.secrets = secrets
        self.server = Server(
            ServerSettings.model_validate({"linger_seconds": 0.0, **settings}), [service(make_echo())]
        ).start()
        self._channels: list[grpc.Channel] = []

    def channel(self, credentials: ClientCredentials) -> grpc.Channel:
        opened = open_channel(self.server.address, own_connection=True, credentials=credentials)
        self._channels.append(opened)
        return opened

    def stub(self, token: str | None = None, **shown: Any) -> pb_grpc.CatalogServiceStub:
        return pb_grpc.CatalogServiceStub(self.channel(self.secrets.credentials(token, **shown)))

    def refused(self, why: str, client: str = "", method: str = "GetEntity") -> float:
        labels = {"service": NAME if method else "", "method": method, "client": client, "reason": why}
        return self.server.metrics.value("matchloop_refused_calls_total", **labels)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self.server.stop()


def failed(calling: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        calling()
    return raised.value
