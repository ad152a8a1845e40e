"""Settings of feedback_svc, from the environment: ``FEEDBACK_*``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matchloop.rpc.settings import ServerSettings

_ENVIRONMENT = SettingsConfigDict(env_prefix="FEEDBACK_", env_ignore_empty=True, frozen=True)


class DatabaseSettings(BaseSettings):
    """Where the record is kept."""

    model_config = _ENVIRONMENT

    database_url: str = Field(
        pattern=r"^postgresql(\+psycopg2)?://",
        repr=False,  # holds a password
        description="SQLAlchemy URL, e.g. postgresql+psycopg2://user@host/matchloop.",
    )


class UseCaseSettings(DatabaseSettings):
    """The record, and what it is about."""

    model_config = _ENVIRONMENT

    use_case_folders: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="More folders of use cases (TOML) beside the shipped ones; separated as in PATH."
    )

    @field_validator("use_case_folders", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(map(Path, filter(None, given.split(os.pathsep)))) if isinstance(given, str) else given


Days = Annotated[int | None, Field(ge=1, le=36_500)]


class RetentionSettings(UseCaseSettings):
    """How long the record is kept, in days since it arrived; left out: for ever."""

    model_config = _ENVIRONMENT

    retain_views_days: Days = Field(None, description="Interactions whose event type is a view.")
    retain_interactions_days: Days = Field(
        None, description="Interactions that are neither views nor dislikes; what they hid is shown again."
    )
    retain_sessions_days: Days = Field(
        None, description="Lists shown. Interactions keep the rank and score they took from them."
    )
    retain_dislikes_days: Days = Field(
        None, description="Dislikes; those no training has used are kept twice as long."
    )
    retain_amendments_days: Days = Field(
        None, description="Notes of changed rows, which an export that is continued later than that misses."
    )

    @model_validator(mode="after")
    def _none_misspelt(self) -> Self:
        """Refuse a misspelt variable: it would keep for ever what was to go."""
        known = {f"FEEDBACK_{name.upper()}" for name in type(self).model_fields}
        unknown = [name for name in sorted(os.environ) if name.upper().startswith("FEEDBACK_RETAIN_")]
        if unknown := [name for name in unknown if name.upper() not in known]:
            raise ValueError(
                f"{', '.join(unknown)}: no such setting; there are {', '.join(_retained(known))}"
            )
        return self


def _retained(names: set[str]) -> list[str]:
    return sorted(name for name in names if name.startswith("FEEDBACK_RETAIN_"))


class FeedbackSettings(ServerSettings, RetentionSettings):
    """All of feedback_svc's settings; those of every server come from `ServerSettings`."""

    model_config = _ENVIRONMENT

    statement_timeout_seconds: float = Field(15.0, gt=0.0, le=600.0)
    connect_timeout_seconds: int = Field(3, ge=1, le=60)
    retrain_negatives: int = Field(20, ge=1, description="Unused negatives that make a retraining due.")
    retrain_error: float = Field(0.7, ge=0.0, le=1.0, description="Mean error over which it is due.")
    retrain_error_negatives: int = Field(10, ge=1, description="Negatives that the mean error needs.")
    reaction_gauge_seconds: float = Field(
        300.0, ge=0.0, le=86_400.0, description="Pause between readings of what came of lists; 0: none."
    )
    reaction_span_seconds: float = Field(
        3600.0, gt=0.0, le=86_400.0, description="Age of the oldest list that a reading looks at."
    )
