"""feedback_svc reads its settings from the environment and tells every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback_svc.serving import bounds_of
from feedback_svc.settings import FeedbackSettings
from matchloop.errors import InvalidInput
from matchloop.rpc.settings import read_settings


def test_what_the_environment_says_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", "postgresql://somewhere/matchloop")
    monkeypatch.setenv("FEEDBACK_USE_CASE_FOLDERS", "/a:/b")
    monkeypatch.setenv("FEEDBACK_RETRAIN_NEGATIVES", "7")
    settings = read_settings(FeedbackSettings)
    assert settings.use_case_folders == (Path("/a"), Path("/b"))
    assert bounds_of(settings).negatives == 7
    assert settings.host == "127.0.0.1"


def test_every_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", "sqlite:///x.db")
    monkeypatch.setenv("FEEDBACK_PORT", "-1")
    monkeypatch.setenv("FEEDBACK_RETRAIN_ERROR", "2")
    with pytest.raises(InvalidInput) as error:
        read_settings(FeedbackSettings)
    assert {v.field for v in error.value.violations} == {
        "FEEDBACK_DATABASE_URL",
        "FEEDBACK_PORT",
        "FEEDBACK_RETRAIN_ERROR",
    }
