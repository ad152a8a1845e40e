"""What ranking_svc takes from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from matchloop.rpc.settings import ServerSettings

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class RankingSettings(ServerSettings):
    """``RANKING_*`` variables; those of every server too."""

    model_config = SettingsConfigDict(env_prefix="RANKING_", env_ignore_empty=True, frozen=True)

    candidate_address: str = Field(min_length=1, description="gRPC target of candidate_svc.")
    feedback_address: str = Field(min_length=1, description="gRPC target of feedback_svc.")
    state_folder: Path = Field(
        Path("matchloop-data/ranking"),
        description="Holds the spool and the cache unless they are named; each process its own.",
    )
    spool_folder: Path | None = Field(
        None, description="Sessions that wait for the store; must outlive the process."
    )
    cache_folder: Path | None = Field(
        None, description="Releases fetched and the last popular lists; can be rebuilt."
    )

    registry_uri: str | None = Field(
        None, repr=False, description="MLflow; None: no release, lists are ordered by rule."
    )
    release_alias: str = Field(
        "champion", pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="Alias in the registry that is followed."
    )
    release_poll_seconds: float = Field(
        5.0, gt=0.0, le=3600.0, description="Between two looks at the registry."
    )
    release_wait_seconds: float = Field(
        10.0, ge=0.0, le=600.0, description="Longest wait for the registry before the last good copy serves."
    )

    spool_max_sessions: int = Field(50_000, ge=1, le=10_000_000)
    spool_max_bytes: int = Field(256 * 1024 * 1024, ge=1024)
    candidate_timeout_seconds: float = Field(2.0, gt=0.0, le=60.0)
    session_timeout_seconds: float = Field(
        1.0, gt=0.0, le=60.0, description="Longest wait for the store before a session is spooled."
    )
    session_reserve_seconds: float = Field(
        0.2, ge=0.0, le=10.0, description="Of the caller's time, kept for storing the session; 30 % at most."
    )
    experiment_poll_seconds: float = Field(
        5.0, gt=0.0, le=3600.0, description="Between two looks at which experiments run."
    )
    experiment_gauge_seconds: float = Field(
        300.0, gt=0.0, le=86_400.0, description="Between two readings of an experiment's gauges."
    )
    popular_refresh_seconds: float = Field(60.0, gt=0.0, le=86_400.0)

    exploration_shares: Annotated[dict[str, Share], NoDecode] = Field(
        default_factory=dict,
        description="Share of lists that chance varies, in place of the use case's own: "
        "user_movie=0.1,investor_startup=0",
    )
    exploration_reach: int | None = Field(
        None, ge=1, le=9, description="Ranks an item moves at most; None: as each use case says."
    )

    @field_validator("exploration_shares", mode="before")
    @classmethod
    def _parted(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        parts = [each.partition("=") for each in given.split(",") if each.strip()]
        return {name.strip(): share.strip() for name, _, share in parts}

    @property
    def spool(self) -> Path:
        """Where sessions wait for the store."""
        return self.spool_folder or self.state_folder / "spool"

    @property
    def cache(self) -> Path:
        """Where releases and the last popular lists are kept."""
        return self.cache_folder or self.state_folder / "cache"
