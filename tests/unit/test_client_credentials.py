"""What a client takes from its environment; what it refuses to do with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from matchloop.errors import InvalidInput
from matchloop.rpc.channel import open_channel
from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.settings import ServerSettings, read_settings
from matchloop.rpc.tls import not_after
from playground.certificates import Authority

TOKEN = "matchloop_secret"


def test_nothing_in_the_environment_is_no_security() -> None:
    credentials = ClientCredentials.of_environment()
    assert credentials.empty
    assert (credentials.tls(), credentials.metadata()) == (None, ())


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"CERT_FILE": "a"}, "set together"),
        ({"CERT_FILE": "a", "KEY_FILE": "b"}, "need ca_file"),
        ({"TOKEN": TOKEN, "TOKEN_FILE": "a"}, "two tokens"),
        ({"CA_FILES": "a"}, "the nearest is MATCHLOOP_CLIENT_CA_FILE"),
        ({"CA_FILE": "/no/such/file"}, "/no/such/file: No such file"),
        ({"TOKEN_FILE": "/no/such/file"}, "/no/such/file"),
        ({"TOKEN": f"{TOKEN} {TOKEN}"}, "is not a token"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fault: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MATCHLOOP_CLIENT_{name}", value)
    with pytest.raises(InvalidInput) as raised:
        open_channel("127.0.0.1:1")
    assert fault in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    credentials = ClientCredentials(ClientSettings(token_file=file))
    assert credentials.metadata() == (("authorization", "Bearer first"),)
    for broken in ("", "two words", "ünicode"):
        file.write_text(broken)
        assert credentials.metadata() == (("authorization", "Bearer first"),)
    file.with_suffix(".new").write_text("second")
    file.with_suffix(".new").rename(file)
    assert credentials.metadata() == (("authorization", "Bearer second"),)


def test_a_token_does_not_leave_the_machine_in_the_open() -> None:
    credentials = ClientCredentials(ClientSettings.model_validate({"token": TOKEN}))
    for here in (
        "127.0.0.1:7300",
        "localhost:7300",
        "[::1]:7300",
        "dns:///localhost:7300",
        "unix:/tmp/socket",
    ):
        open_channel(here, credentials=credentials).close()
    for away in (
        "matchloop-ranking:7300",
        "dns:///matchloop-ranking:7300",
        "10.0.0.1:7300",
        "127.0.0.1.nip.io:1",
    ):
        with pytest.raises(InvalidInput, match="could be read on its way") as raised:
            open_channel(away, credentials=credentials)
        assert TOKEN not in str(raised.value)
    meshed = ClientSettings.model_validate({"token": TOKEN, "plaintext_tokens": True})
    open_channel("matchloop-ranking:7300", credentials=ClientCredentials(meshed)).close()
    assert TOKEN not in repr(meshed)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"tls_cert_file": "a"}, "set together"),
        ({"tls_client_ca_file": "a"}, "needs tls_cert_file"),
        ({"tokens_file": "a", "host": "0.0.0.0"}, "see plaintext_tokens"),
        ({"burst_per_client": 5}, "needs rate_per_client"),
    ],
)
def test_a_server_is_secured_as_a_whole_or_not_at_all(variables: dict[str, object], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        read_settings(ServerSettings, **variables)
    read_settings(ServerSettings, host="0.0.0.0", tokens_file="a", plaintext_tokens=True)


@pytest.mark.parametrize("year", [1999, 2049, 2050, 2120])
def test_when_a_certificate_expires_is_read_from_it(tmp_path: Path, year: int) -> None:
    """Years from 2050 on are written another way than those before."""
    end = datetime(year, 2, 28, 23, 59, 58, tzinfo=UTC)
    authority = Authority(tmp_path)
    issued = authority.issue("server", from_time=datetime(1998, 1, 1, tzinfo=UTC), to_time=end)
    assert not_after(issued.certificate.read_bytes() + authority.certificate.read_bytes()) == end
