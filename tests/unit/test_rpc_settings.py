"""Settings: read by prefix, refused with every problem at once."""

from __future__ import annotations

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

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


def test_a_typo_is_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_UPSTREAM_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("ECHO_THREDS", "4")
    monkeypatch.setenv("echo_max_concurent", "4")
    monkeypatch.setenv("ECHO_GRACE_SECONDS", "-1")
    monkeypatch.setenv("ECHOES_THREDS", "another's")
    with pytest.raises(InvalidInput) as raised:
        read_settings(EchoSettings)
    found = {v.field: v.description for v in raised.value.violations}
    assert set(found) == {"ECHO_THREDS", "echo_max_concurent", "ECHO_GRACE_SECONDS"}
    assert found["ECHO_THREDS"] == "is no setting; the nearest is ECHO_THREADS"
    assert found["echo_max_concurent"] == "is no setting; the nearest is ECHO_MAX_CONCURRENT"


KUBERNETES = {
    "ECHO_SERVICE_HOST": "10.96.0.7",
    "ECHO_SERVICE_PORT": "7301",
    "ECHO_SERVICE_PORT_GRPC": "7301",
    "ECHO_PORT": "tcp://10.96.0.7:7301",
    "ECHO_PORT_7301_TCP": "tcp://10.96.0.7:7301",
    "ECHO_PORT_7301_TCP_PROTO": "tcp",
    "ECHO_PORT_7301_TCP_PORT": "7301",
    "ECHO_PORT_7301_TCP_ADDR": "10.96.0.7",
    "ECHO_METRICS_PORT": "tcp://10.96.0.8:9100",
    "ECHO_METRICS_SERVICE_HOST": "10.96.0.8",
    "ECHO_SVC_PORT": "tcp://10.96.0.9:1",
    "ECHO_SVC_PORT_1_UDP_ADDR": "10.96.0.9",
}


def test_what_kubernetes_sets_for_a_service_of_that_name_breaks_no_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ECHO_UPSTREAM_ADDRESS", "127.0.0.1:1")
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = read_settings(EchoSettings)
    assert (settings.port, settings.metrics_port) == (0, None)
    monkeypatch.setenv("ECHO_PORT", "7301")  # the pod's own word wins
    assert read_settings(EchoSettings).port == 7301


def test_a_part_of_the_settings_knows_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Part(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="ECHO_")
        upstream_address: str

    monkeypatch.setenv("ECHO_UPSTREAM_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("ECHO_THREADS", "4")
    assert read_settings(Part).upstream_address == "127.0.0.1:1"
