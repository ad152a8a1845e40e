"""Channels to other services, and the one way to call through them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

import grpc

from matchloop.errors import MatchloopError, Overloaded, Reason, ScopeMissing, Unauthenticated, Unavailable
from matchloop.observe import logs
from matchloop.rpc import deadline, spans
from matchloop.rpc.credentials import ClientCredentials
from matchloop.rpc.secured import SecuredChannel
from matchloop.rpc.settings import MAX_MESSAGE_BYTES
from matchloop.rpc.status import REQUEST_ID_KEY, from_rpc_error
from matchloop.rpc.tls import channel_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.observe.metrics import Metrics
    from matchloop.rpc.tls import TlsMaterial

    Request = TypeVar("Request")

Response = TypeVar("Response")

MAX_METADATA_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 30
CONNECT_SECONDS = 5
"""Longest for a connection to come about, handshakes included; one that is refused is tried again sooner."""


def service_config(idempotent: Sequence[str], *, attempts: int = 3, watch_health: bool = False) -> str:
    """Return the gRPC service config: round robin, and retries for `idempotent` methods alone.

    Parameters
    ----------
    idempotent
        Methods whose contract says that a repeat does no harm, as ``package.Service/Method`` or, for a whole
        service, ``package.Service``. They are retried on UNAVAILABLE and on CANCELLED (what a server that
        shuts down answers to calls it had received and not begun), not on RESOURCE_EXHAUSTED or
        DEADLINE_EXCEEDED: that would add load where there is too much.
    attempts
        Calls made at most, 2 to 5; back-off from 20 ms, doubled up to 200 ms, jittered by gRPC.

    watch_health
        Leave an address as soon as its health says NOT_SERVING. For targets of several addresses: a server
        that shuts down then loses no call, retried or not.

    Raises
    ------
    ValueError
        If an entry has another form or `attempts` is out of range.
    """
    if not 2 <= attempts <= 5:
        raise ValueError(f"attempts is {attempts}, not 2 to 5")
    names = []
    for entry in idempotent:
        service, _, method = entry.partition("/")
        if not service or "/" in method or entry.endswith("/"):
            raise ValueError(f"{entry!r} is neither package.Service nor package.Service/Method")
        names.append({"service": service, "method": method} if method else {"service": service})
    retry = {
        "maxAttempts": attempts,
        "initialBackoff": "0.02s",
        "maxBackoff": "0.2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if watch_health:
        config["healthCheckConfig"] = {"serviceName": ""}
    if names:
        config["methodConfig"] = [{"name": names, "retryPolicy": retry}]
        config["retryThrottling"] = {"maxTokens": 20, "tokenRatio": 0.1}
    return json.dumps(config)


def open_channel(
    address: str,
    *,
    idempotent: Sequence[str] = (),
    attempts: int = 3,
    watch_health: bool = False,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    own_connection: bool = False,
    credentials: ClientCredentials | None = None,
) -> grpc.Channel:
    """Open a channel; it connects with the first call, and again by itself after a fault.

    Parameters
    ----------
    address
        gRPC target: ``host:port``, ``dns:///name:port`` (all addresses, round robin),
        ``ipv4:a:p,b:p``.
    idempotent, attempts, watch_health
        As for `service_config`.
    max_message_bytes
        Bound on messages either way.
    own_connection
        Share none with other channels of this process to the same address.
    credentials
        What to show and whom to trust; None: as ``MATCHLOOP_CLIENT_*`` say.

    Returns
    -------
    grpc.Channel
        To be closed by the caller. New certificates and tokens are taken up by themselves.

    Raises
    ------
    InvalidInput
        If the environment's credentials cannot be used, or a token would go where others could read it.
    """
    options: list[tuple[str, object]] = [
        ("grpc.service_config", service_config(idempotent, attempts=attempts, watch_health=watch_health)),
        ("grpc.enable_retries", 1),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),  # what gRPC calls the time to connect
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", int(own_connection)),
    ]

    def connect(tls: TlsMaterial | None) -> grpc.Channel:
        if tls is None:
            return grpc.insecure_channel(address, options=options)
        return grpc.secure_channel(address, channel_credentials(tls), options=options)

    shown = credentials if credentials is not None else ClientCredentials.of_environment()
    shown.check_target(address)
    return spans.traced(connect(None) if shown.empty else SecuredChannel(shown, connect))


def request_metadata() -> tuple[tuple[str, str], ...]:
    """Return what passes the current request id on with a call."""
    request_id = logs.request_id.get()
    return ((REQUEST_ID_KEY, request_id),) if request_id is not None else ()


def call(
    method: grpc.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    *,
    upstream: str,
    most: float = deadline.DEFAULT_DEADLINE,
    reserve: float = deadline.RESERVE,
    metrics: Metrics | None = None,
) -> Response:
    """Call another service within the current budget, under the current request id.

    Parameters
    ----------
    method
        A method of a stub, e.g. ``stub.LookupSubjectState``.
    upstream
        The called service's name, for messages and the metric `upstream_failures`.
    most, reserve
        As for `deadline.upstream_timeout`.

    Raises
    ------
    DeadlinePassed
        If too little time is left to call, or the time ran out.
    MatchloopError
        What the other side raised; Unavailable if it could not be reached, or refuses our token.
    """
    timeout = deadline.upstream_timeout(most=most, reserve=reserve)
    try:
        return method(request, timeout=timeout, metadata=request_metadata())
    except grpc.RpcError as error:
        mapped = from_rpc_error(error, upstream=upstream)
        if metrics is not None:
            metrics.upstream_failures.labels(upstream, mapped.reason.value).inc()
        raise _for_our_caller(mapped, upstream) from error


def _for_our_caller(error: MatchloopError, upstream: str) -> MatchloopError:
    """Return what to tell: that our own token or rate is refused says nothing about our caller's."""
    if isinstance(error, Unauthenticated | ScopeMissing):
        return Unavailable(f"{upstream} refuses who calls it")
    if error.reason is Reason.RATE_EXCEEDED:
        return Overloaded(f"{upstream} takes no more calls now")
    return error
