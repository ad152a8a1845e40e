"""The error tree. Domain code raises these; `matchloop.rpc` turns them into gRPC statuses.

::

    MatchloopError                 reason            gRPC code
    ├── InvalidInput               INVALID_INPUT     INVALID_ARGUMENT   names every violated field
    │   └── NotEquipped            INVALID_INPUT     never on the wire: no such device or engine here
    ├── NotFound                   *_NOT_FOUND       NOT_FOUND
    ├── Conflict                   CONFLICT          FAILED_PRECONDITION
    │   └── BackupRefused          CONFLICT          never on the wire: damaged, or not to be restored there
    ├── Unauthenticated            UNAUTHENTICATED   UNAUTHENTICATED
    ├── ScopeMissing               SCOPE_MISSING     PERMISSION_DENIED
    ├── Overloaded                 OVERLOADED        RESOURCE_EXHAUSTED
    │   └── RateExceeded           RATE_EXCEEDED     RESOURCE_EXHAUSTED  says when to come again
    ├── Unavailable                *_UNAVAILABLE     UNAVAILABLE        worth a retry
    ├── DeadlinePassed             DEADLINE_PASSED   DEADLINE_EXCEEDED
    ├── NotImplementedYet          NOT_IMPLEMENTED   UNIMPLEMENTED
    ├── ReleaseRefused             RELEASE_REFUSED   FAILED_PRECONDITION  corrupt, incompatible, wrong answers
    │   └── SchemaMismatch         SCHEMA_MISMATCH   FAILED_PRECONDITION  both fingerprints in the message
    └── TooFewExamples             TOO_FEW_EXAMPLES  FAILED_PRECONDITION  the counts in the message
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reason(StrEnum):
    """Why a call failed; equal, name by name, to `matchloop.catalog.v1.ErrorReason`."""

    INVALID_INPUT = "INVALID_INPUT"
    USE_CASE_NOT_FOUND = "USE_CASE_NOT_FOUND"
    ENTITY_NOT_FOUND = "ENTITY_NOT_FOUND"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    RELEASE_NOT_FOUND = "RELEASE_NOT_FOUND"
    CONFLICT = "CONFLICT"
    OVERLOADED = "OVERLOADED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    REGISTRY_UNAVAILABLE = "REGISTRY_UNAVAILABLE"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    RELEASE_REFUSED = "RELEASE_REFUSED"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    TOO_FEW_EXAMPLES = "TOO_FEW_EXAMPLES"
    EXPERIMENT_NOT_FOUND = "EXPERIMENT_NOT_FOUND"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    SCOPE_MISSING = "SCOPE_MISSING"
    RATE_EXCEEDED = "RATE_EXCEEDED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One violated field: `field` is its path in the request, e.g. ``interactions[3].event_type``."""

    field: str
    description: str


class MatchloopError(Exception):
    """Base of every error that matchloop raises on purpose.

    Parameters
    ----------
    message
        For people; may be shown to the client.
    reason
        For programs; overrides the class's own reason.
    violations
        Every violated field, in request order.
    """

    reason: Reason = Reason.INTERNAL

    def __init__(
        self, message: str, *, reason: Reason | None = None, violations: Sequence[Violation] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.violations = tuple(violations)


class InvalidInput(MatchloopError):  # noqa: N818 - the tree reads as statements
    """What was asked breaks a stated rule; nothing was written."""

    reason = Reason.INVALID_INPUT

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> InvalidInput:
        """Build the error from every violation found; the message names them all."""
        lines = "; ".join(f"{v.field}: {v.description}" for v in violations)
        return cls(lines, violations=violations)


class NotEquipped(InvalidInput):
    """The settings ask for what this machine does not have; the message says what to install or to set."""


class NotFound(MatchloopError):  # noqa: N818
    """The thing named does not exist."""

    reason = Reason.ENTITY_NOT_FOUND


class Conflict(MatchloopError):  # noqa: N818
    """The request contradicts what is stored."""

    reason = Reason.CONFLICT


class BackupRefused(Conflict):
    """A backup is damaged, incomplete or of a newer release, or the place to restore it to is not empty."""


class Unauthenticated(MatchloopError):  # noqa: N818
    """Nobody knows who calls: no token, or none that is valid."""

    reason = Reason.UNAUTHENTICATED


class ScopeMissing(MatchloopError):  # noqa: N818
    """Who calls is known, and may not do this."""

    reason = Reason.SCOPE_MISSING


class Overloaded(MatchloopError):  # noqa: N818
    """A stated capacity is used up; refused at once, never queued without end."""

    reason = Reason.OVERLOADED


class RateExceeded(Overloaded):
    """A client calls more often than it may; `wait` is in seconds, until its next call is taken."""

    reason = Reason.RATE_EXCEEDED

    def __init__(self, message: str, *, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Unavailable(MatchloopError):  # noqa: N818
    """A thing this call needs is down; the same call may succeed later."""

    reason = Reason.UPSTREAM_UNAVAILABLE


class DeadlinePassed(MatchloopError):  # noqa: N818
    """The caller's time budget ran out."""

    reason = Reason.DEADLINE_PASSED


class NotImplementedYet(MatchloopError):  # noqa: N818
    """The contract promises it, this version does not do it yet."""

    reason = Reason.NOT_IMPLEMENTED


class ReleaseRefused(MatchloopError):  # noqa: N818
    """A release is corrupt, incomplete or answers its golden requests wrongly."""

    reason = Reason.RELEASE_REFUSED


class SchemaMismatch(ReleaseRefused):
    """Data or a release has another feature schema than the one in force."""

    reason = Reason.SCHEMA_MISMATCH

    def __init__(self, *, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: schema fingerprint {found}, but {expected} is in force")
        self.expected = expected
        self.found = found


class TooFewExamples(MatchloopError):  # noqa: N818
    """There is too little data to train on; the message has the counts."""

    reason = Reason.TOO_FEW_EXAMPLES
