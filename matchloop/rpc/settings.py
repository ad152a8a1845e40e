"""What every server takes from its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matchloop.errors import InvalidInput, Violation

S = TypeVar("S", bound=BaseSettings)

LOOPBACK = "127.0.0.1"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Kubernetes gives every pod these of every service in its namespace, under the service's name. A service that
# is called `feedback`, or `feedback-metrics`, gives names that begin as ours do, and `FEEDBACK_PORT` itself.
_OF_KUBERNETES = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


class ServerSettings(BaseSettings):
    """Settings of one server; a service subclasses it and names its prefix.

    ::

        class FeedbackSettings(ServerSettings):
            model_config = SettingsConfigDict(env_prefix="FEEDBACK_")

    Read it with `read_settings`, which tells every problem at once.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    host: str = Field(LOOPBACK, min_length=1, description="Address to listen on; a pod sets 0.0.0.0.")
    port: int = Field(0, ge=0, le=65535, description="0 takes a free port.")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="None: no exporter; 0: a free port.")
    threads: int = Field(16, ge=1, le=512, description="Calls worked on at a time.")
    max_concurrent: int = Field(64, ge=1, le=10_000, description="Calls accepted at a time, queued ones too.")
    grace_seconds: float = Field(10.0, ge=0.0, le=600.0, description="Longest drain after SIGTERM.")
    linger_seconds: float = Field(
        0.25, ge=0.0, le=60.0, description="From NOT_SERVING to refusing calls: for clients to notice."
    )
    default_deadline_seconds: float = Field(10.0, gt=0.0, le=600.0, description="For callers that set none.")
    max_message_bytes: int = Field(MAX_MESSAGE_BYTES, ge=1024, le=256 * 1024 * 1024)
    reuse_port: bool = Field(default=False, description="SO_REUSEPORT: several processes share the port.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    use_case_folders: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="More folders of use cases (TOML) beside the shipped ones; separated as in PATH."
    )

    @field_validator("port", "metrics_port", mode="before")
    @classmethod
    def _link_is_not_ours(cls, given: object, info: ValidationInfo) -> object:
        """Take the default where Kubernetes wrote ``tcp://address:port`` and nobody else wrote anything."""
        if isinstance(given, str) and _LINK.match(given) and info.field_name:
            return cls.model_fields[info.field_name].default
        return given

    @field_validator("use_case_folders", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(map(Path, filter(None, given.split(os.pathsep)))) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _threads_fit(self) -> Self:
        if self.max_concurrent < self.threads:
            raise ValueError(f"max_concurrent ({self.max_concurrent}) is less than threads ({self.threads})")
        return self


def read_settings(kind: type[S], **overrides: Any) -> S:
    """Build settings from the environment, `overrides` first.

    A server's settings are all there is under its prefix: any other variable of that prefix is refused, with
    the nearest name there is. What Kubernetes sets for a service of that name is not ours and is ignored.

    Raises
    ------
    InvalidInput
        Naming every faulty variable, each with what it was and what it should be.
    """
    prefix = str(kind.model_config.get("env_prefix", ""))
    violations = _unknown_variables(kind, prefix.upper())
    try:
        settings = kind(**overrides)
    except ValidationError as error:
        violations += [
            Violation(
                (prefix + "__".join(map(str, fault["loc"])) if fault["loc"] else prefix + "*").upper(),
                f"{_said(fault)}, not {fault['input']!r}" if fault["loc"] else _said(fault),
            )
            for fault in error.errors(include_url=False)
        ]
        raise InvalidInput.of(violations) from None
    if violations:
        raise InvalidInput.of(violations)
    return settings


def _said(fault: Mapping[str, Any]) -> str:
    """Return what is wrong, without pydantic's note of who found it."""
    return str(fault["msg"]).removeprefix("Value error, ")


def _unknown_variables(kind: type[BaseSettings], prefix: str) -> list[Violation]:
    # A command may read a part of a server's settings: to the part, the others' names are unknown.
    if not prefix or not issubclass(kind, ServerSettings):
        return []
    known = [prefix + name.upper() for name in kind.model_fields]
    return [
        Violation(name, f"is no setting; the nearest is {get_close_matches(name.upper(), known, 1, 0.0)[0]}")
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(prefix) and name.upper() not in known
        if value and not _is_of_kubernetes(name.upper().removeprefix(prefix), value)
    ]


def _is_of_kubernetes(rest: str, value: str) -> bool:
    return _OF_KUBERNETES.fullmatch(rest) is not None or (
        rest.endswith("PORT") and _LINK.match(value) is not None
    )
