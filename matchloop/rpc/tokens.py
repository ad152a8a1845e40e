"""Bearer tokens: who holds one, what it allows, until when. Kept as hashes, in TOML.

::

    [[token]]
    name = "shop"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["read", "feedback"]
    expires = 2027-06-30T00:00:00Z
    rate = 200.0

A token is 256 random bits, so a plain hash keeps it as well as a slow one would.
"""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "matchloop_"
"""Begins every token: what scanners for leaked secrets look for."""


class Scope(StrEnum):
    """What a token allows; equal, name by name, to `matchloop.catalog.v1.Scope`. None includes another."""

    READ = "read"
    FEEDBACK = "feedback"
    CATALOGUE = "catalogue"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token.

    Parameters
    ----------
    name
        Of the client: in logs and metrics. Its tokens share one rate.
    expires
        Seconds since 1970 from which the token is no longer valid; None: never.
    rate, burst
        In place of the server's `rate_per_client` and `burst_per_client`; None: those.
    """

    name: str
    scopes: frozenset[Scope]
    expires: float | None = None
    rate: float | None = None
    burst: int | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    expires: AwareDatetime | None = None
    rate: float | None = Field(None, ge=0.0, le=1e6)
    burst: int | None = Field(None, ge=0, le=10**7)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: tuple[_Entry, ...] = ()


def hash_of(token: str) -> str:
    """Return the hash under which a token is kept: SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Return a new token, 53 characters of a URL's alphabet."""
    return PREFIX + secrets.token_urlsafe(32)


def entry(name: str, token: str, scopes: frozenset[Scope], expires: datetime | None) -> str:
    """Return the lines of a tokens file for a token.

    Raises
    ------
    ValueError
        If the name is not lower case letters, digits, ``-`` and ``_``, or there is no scope.
    """
    lines = [
        "[[token]]",
        f'name = "{name}"',
        f'sha256 = "{hash_of(token)}"',
        "scopes = [" + ", ".join(f'"{scope}"' for scope in Scope if scope in scopes) + "]",
    ]
    if expires is not None:
        lines.append(f"expires = {expires.astimezone(UTC).isoformat(timespec='seconds')}")
    text = "\n".join(lines) + "\n"
    parse_tokens(text)
    return text


def read_tokens(file: Path) -> Mapping[str, Holder]:
    """Read a tokens file; returns holders by hash. A file without tokens lets nobody in.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        Naming everything that is wrong in it, but not what it holds.
    """
    try:
        return parse_tokens(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def parse_tokens(text: str) -> Mapping[str, Holder]:
    """Return holders by hash; see `read_tokens`."""
    try:
        entries = _File.model_validate(tomllib.loads(text)).token
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise ValueError(
            "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        ) from None
    found: dict[str, Holder] = {}
    for index, each in enumerate(entries):
        if each.sha256 in found:
            raise ValueError(f"token.{index}: another entry is of the same token")
        expires = each.expires.timestamp() if each.expires is not None else None
        found[each.sha256] = Holder(each.name, each.scopes, expires, each.rate, each.burst)
    return MappingProxyType(found)
