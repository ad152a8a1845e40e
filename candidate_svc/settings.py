"""What candidate_svc takes from its environment: ``CANDIDATE_*``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from matchloop.rpc.settings import ServerSettings


class CandidateSettings(ServerSettings):
    """Settings of candidate_svc, besides those of every server."""

    model_config = SettingsConfigDict(env_prefix="CANDIDATE_", env_ignore_empty=True, frozen=True)

    feedback_address: str = Field(min_length=1, description="feedback_svc, as a gRPC target.")
    registry_uri: str | None = Field(
        None, repr=False, description="MLflow; None: no release, content and popular only."
    )
    release_alias: str = Field(
        "champion", pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="Alias in the registry that is followed."
    )
    cache_folder: Path = Field(Path("matchloop-data/candidate"), description="Releases, kept over restarts.")
    release_poll_seconds: float = Field(5.0, gt=0.0, le=3600.0)
    release_wait_seconds: float = Field(
        10.0, ge=0.0, le=600.0, description="Longest wait for the registry before the last good copy serves."
    )
    poll_seconds: float = Field(
        1.0, gt=0.0, le=3600.0, description="Pause between two looks at the catalogue."
    )
    entities_page: int = Field(1000, ge=1, le=2000)
    stats_page: int = Field(5000, ge=1, le=5000)
    list_seconds: float = Field(10.0, gt=0.0, le=600.0, description="Longest wait for one page.")
    lookup_seconds: float = Field(0.5, gt=0.0, le=60.0, description="Longest wait for a subject's state.")
    state_seconds: float = Field(
        300.0, ge=0.0, description="How long a state stands in while feedback_svc is down."
    )
    states_kept: int = Field(10_000, ge=0, le=10_000_000)
