"""Service configs retry what is listed and nothing else."""

from __future__ import annotations

import json

import pytest

from matchloop.rpc.channel import service_config


def test_only_listed_methods_are_retried_and_only_when_unavailable() -> None:
    config = json.loads(service_config(["a.v1.S/Get", "b.v1.T"], attempts=4))
    (methods,) = config["methodConfig"]
    assert methods["name"] == [{"service": "a.v1.S", "method": "Get"}, {"service": "b.v1.T"}]
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert methods["retryPolicy"]["maxAttempts"] == 4
    assert "methodConfig" not in json.loads(service_config([]))


@pytest.mark.parametrize("entry", ["", "/Get", "/a.v1.S/Get", "a.v1.S/"])
def test_malformed_method_names_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        service_config([entry])


def test_attempts_are_bounded() -> None:
    with pytest.raises(ValueError, match="attempts"):
        service_config([], attempts=9)
