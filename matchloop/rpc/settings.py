"""What every server takes from its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
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


class WholePrefix(BaseSettings):
    """Settings that are all there is under their prefix: `read_settings` refuses any other variable there."""


class ServerSettings(WholePrefix):
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

    tls_cert_file: Path | None = Field(
        None, description="PEM, leaf first; None: connections are not secured."
    )
    tls_key_file: Path | None = Field(None, description="PEM, without a password.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM; set: only clients with a certificate of these authorities are let in."
    )
    tokens_file: Path | None = Field(
        None, description="Who may call what (docs/secure.md); None: whoever is let in may call everything."
    )
    plaintext_tokens: bool = Field(
        default=False, description="Take tokens over connections without TLS: for a mesh that encrypts."
    )
    rate_per_client: float = Field(0.0, ge=0.0, le=1e6, description="Calls per second; 0: any number.")
    burst_per_client: int = Field(0, ge=0, le=10**7, description="Calls at once; 0: a second's worth.")
    max_connection_seconds: float = Field(
        600.0,
        ge=1.0,
        le=86_400.0,
        description="After which clients connect anew, and so find new pods and show certificates again.",
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

    @model_validator(mode="after")
    def _secured_as_a_whole(self) -> Self:
        """Refuse half a security: it would be taken for a whole one."""
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are set together or not at all")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        if self.tokens_file and not (self.tls_cert_file or self.plaintext_tokens or is_loopback(self.host)):
            raise ValueError("tokens_file without TLS lets tokens be read on the way; see plaintext_tokens")
        if self.burst_per_client and not self.rate_per_client:
            raise ValueError("burst_per_client needs rate_per_client")
        return self

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a setting: what errors name."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def is_loopback(host: str) -> bool:
    """Say whether what is sent to this host never leaves this machine; names but localhost may resolve."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def read_settings(kind: type[S], **overrides: Any) -> S:
    """Build settings from the environment, `overrides` first.

    Where they are all there is under their prefix (`WholePrefix`), any other variable of that prefix is
    refused, with the nearest name there is. What Kubernetes sets for a service of that name is not ours and
    is ignored. What a field without `repr` holds is a secret, and not shown.

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
                f"{_said(fault)}{_shown_input(kind, fault)}",
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


def _shown_input(kind: type[BaseSettings], fault: Mapping[str, Any]) -> str:
    field = kind.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
    return f", not {fault['input']!r}" if field is not None and field.repr else ""


def _unknown_variables(kind: type[BaseSettings], prefix: str) -> list[Violation]:
    # A command may read a part of a server's settings: to the part, the others' names are unknown.
    if not prefix or not issubclass(kind, WholePrefix):
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
