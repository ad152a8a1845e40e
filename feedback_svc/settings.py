"""Settings of feedback_svc, from the environment: ``FEEDBACK_*``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matchloop.rpc.settings import ServerSettings

_ENVIRONMENT = SettingsConfigDict(env_prefix="FEEDBACK_", env_ignore_empty=True, frozen=True)


class DatabaseSettings(BaseSettings):
    """Where the record is kept."""

    model_config = _ENVIRONMENT

    database_url: str = Field(
        pattern=r"^postgresql(\+psycopg2)?://",
        description="SQLAlchemy URL, e.g. postgresql+psycopg2://user@host/matchloop.",
    )


class FeedbackSettings(ServerSettings, DatabaseSettings):
    """All of feedback_svc's settings; those of every server come from `ServerSettings`."""

    model_config = _ENVIRONMENT

    use_case_folders: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="More folders of use cases (TOML) beside the shipped ones, separated as in PATH."
    )
    statement_timeout_seconds: float = Field(15.0, gt=0.0, le=600.0)
    connect_timeout_seconds: int = Field(3, ge=1, le=60)
    retrain_negatives: int = Field(20, ge=1, description="Unused negatives that make a retraining due.")
    retrain_error: float = Field(0.7, ge=0.0, le=1.0, description="Mean error over which it is due.")
    retrain_error_negatives: int = Field(10, ge=1, description="Negatives that the mean error needs.")

    @field_validator("use_case_folders", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(Path(part) for part in value.split(os.pathsep) if part) if isinstance(value, str) else value
        )
