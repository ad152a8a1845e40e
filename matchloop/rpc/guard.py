"""Who calls, whether they may, and how often: asked before a call reaches a servicer."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool

from matchloop.catalog.v1 import scope_pb2
from matchloop.errors import RateExceeded, ScopeMissing, Unauthenticated
from matchloop.observe import logs
from matchloop.rpc.credentials import AUTHORIZATION
from matchloop.rpc.pace import Pace
from matchloop.rpc.tokens import Holder, Scope, hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from matchloop.observe.metrics import Metrics

    Metadata = Iterable[tuple[str, str | bytes]]

HEALTH = "/grpc.health.v1.Health/"
"""What probes call: they hold no token."""

REFLECTION = "/grpc.reflection."
"""What any valid token may call."""

SCHEME = "bearer "

_log = logs.get_logger()


def scopes_of(services: Iterable[str]) -> dict[str, Scope | None]:
    """Return what each method of these services asks for, by ``/package.Service/Method``.

    It is the contract's option `matchloop.catalog.v1.scope`; None, where there is none: nobody may call it.
    """
    pool = descriptor_pool.Default()
    named = {value.number: name for name, value in scope_pb2.Scope.DESCRIPTOR.values_by_name.items()}
    found: dict[str, Scope | None] = {}
    for service in services:
        for method in pool.FindServiceByName(service).methods:
            name = named[method.GetOptions().Extensions[scope_pb2.scope]].removeprefix("SCOPE_").lower()
            found[f"/{service}/{method.name}"] = Scope(name) if name != "unspecified" else None
    return found


class Guard:
    """Refuses what a server's clients may not do, and counts it.

    Parameters
    ----------
    needed
        From `scopes_of`.
    holders
        Returns who holds which token, by hash, as of now; None: nobody is asked for one.
    rate, burst
        Calls per second of a client, 0 for any number, and calls at once, 0 for a second's worth. A client is
        a token's holder or, where nobody is asked for a token, an address.
    metrics
        `refused_calls`.
    now
        Seconds since 1970.
    """

    def __init__(
        self,
        needed: Mapping[str, Scope | None],
        holders: Callable[[], Mapping[str, Holder]] | None,
        *,
        rate: float,
        burst: int,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        pace: Pace | None = None,
    ) -> None:
        self._needed = needed
        self._holders = holders
        self._rate, self._burst = rate, burst
        self._metrics = metrics
        self._now = now
        self._pace = pace or Pace()

    def admit(self, method: str, metadata: Metadata) -> Holder | None:
        """Return who calls; None where nobody is asked.

        Parameters
        ----------
        method
            ``/package.Service/Method``, as called: it may be none that there is.

        Raises
        ------
        Unauthenticated
            Without a token, with one that nobody holds, with one that has expired.
        ScopeMissing
            If the token allows other things only. So it is for every method that asks for no scope.
        """
        if self._holders is None or method.startswith(HEALTH):
            return None
        token = _token_in(metadata)
        if token is None:
            raise self._unauthenticated(method, "no_token", "a token is needed: authorization: Bearer TOKEN")
        holder = self._holders().get(hash_of(token))
        if holder is None:
            raise self._unauthenticated(method, "unknown_token", "the token is not valid")
        if holder.expires is not None and holder.expires <= self._now():
            raise self._unauthenticated(method, "expired_token", "the token has expired", holder.name)
        needed = self._needed.get(method)
        if needed not in holder.scopes and not method.startswith(REFLECTION):
            self._refused(method, "scope", holder.name)
            raise ScopeMissing(
                f"the token lacks the scope {needed}" if needed else "no token allows to call this"
            )
        return holder

    def enter(self, method: str, holder: Holder | None, peer: Callable[[], str]) -> None:
        """Count an admitted call towards its client's rate; note in the log who does what an admin may.

        Raises
        ------
        RateExceeded
            With the time until the next call of this client is taken.
        """
        rate, burst, client = self._rate, self._burst, ""
        if holder is not None:
            rate, burst, client = *_own(holder, rate, burst), holder.name
        if rate:
            wait = self._pace.take(client or _host(peer()), rate, burst or max(1, math.ceil(rate)))
            if wait:
                self._refused(method, "rate", client)
                raise RateExceeded(f"this client may make {rate:g} calls a second", wait=wait)
        if holder is not None and self._needed.get(method) is Scope.ADMIN:
            _log.info("admin_call", client=holder.name, method=method)

    def knows(self, method: str) -> bool:
        """Whether a method is one of those served: only these become labels."""
        return method in self._needed

    def _unauthenticated(self, method: str, why: str, message: str, client: str = "") -> Unauthenticated:
        self._refused(method, why, client)
        return Unauthenticated(message)

    def _refused(self, method: str, why: str, client: str) -> None:
        service, _, name = method.lstrip("/").partition("/") if self.knows(method) else ("", "", "")
        self._metrics.refused_calls.labels(service, name, client, why).inc()


def _own(holder: Holder, rate: float, burst: int) -> tuple[float, int]:
    """Return the holder's own bounds where it has some; the server's burst goes with the server's rate."""
    if holder.rate is None:
        return rate, holder.burst if holder.burst is not None else burst
    return holder.rate, holder.burst or 0


def _token_in(metadata: Metadata) -> str | None:
    for key, value in metadata:
        if key == AUTHORIZATION and isinstance(value, str):
            return value[len(SCHEME) :].strip() if value[: len(SCHEME)].lower() == SCHEME else None
    return None


def _host(peer: str) -> str:
    """Return gRPC's ``ipv4:address:port`` without the port, which is another one with each connection."""
    return peer.rpartition(":")[0] or peer
