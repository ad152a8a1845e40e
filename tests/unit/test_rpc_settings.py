"""Settings: read by prefix, refused with every problem at once."""

from __future__ import annotations

import pytest
from pydantic_settings import SettingsConfigDict

from matchloop.errors import InvalidInput
from matchloop.rpc.settings import ServerSettings, read_settings


class EchoSettings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="ECHO_")
    upstream_address: str


def test_defaults_listen_on_loopback_with_a_limit() -> None:
    settings = read_settings(ServerSettings)
    assert settings.host == "127.0.0.1"
    assert settings.max_concurrent >= settings.threads


def test_every_problem_is_told_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PORT": "http", "THREADS": "0", "LOG_LEVEL": "LOUD"}.items():
        monkeypatch.setenv(f"ECHO_{name}", value)
    with pytest.raises(InvalidInput) as raised:
        read_settings(EchoSettings)
    assert {v.field for v in raised.value.violations} == {
        "ECHO_PORT",
        "ECHO_THREADS",
        "ECHO_LOG_LEVEL",
        "ECHO_UPSTREAM_ADDRESS",
    }
    assert "'http'" in str(raised.value)


def test_a_limit_under_the_threads_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_concurrent"):
        read_settings(ServerSettings, threads=8, max_concurrent=4)


def test_environment_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_UPSTREAM_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("ECHO_METRICS_PORT", "")
    settings = read_settings(EchoSettings, threads=2)
    assert (settings.upstream_address, settings.threads, settings.metrics_port) == ("127.0.0.1:1", 2, None)
