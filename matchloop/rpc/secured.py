"""A channel that shows the newest certificate and sends the newest token, without being opened again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from matchloop.rpc.credentials import ClientCredentials
    from matchloop.rpc.tls import TlsMaterial

RETIRED_SECONDS = 60.0
"""How long a channel of the certificates before stays open, for the calls that began on it."""


class SecuredChannel(grpc.Channel):
    """A channel under which another is opened when the certificates have changed.

    Calls in flight end on the channel they began on; the next ones go over the new one.

    Parameters
    ----------
    credentials
        What to show.
    connect
        Opens a channel with these certificates; None: without TLS.
    """

    def __init__(
        self, credentials: ClientCredentials, connect: Callable[[TlsMaterial | None], grpc.Channel]
    ) -> None:
        self._credentials = credentials
        self._connect = connect
        self._lock = threading.Lock()
        self._tls = credentials.tls()
        self._channel = connect(self._tls)
        self._retired: list[tuple[float, grpc.Channel]] = []
        self._closed = False

    @property
    def newest(self) -> grpc.Channel:
        """The channel for the next call."""
        tls = self._credentials.tls()
        if tls is not self._tls or self._retired:
            with self._lock:
                if tls is not self._tls and not self._closed:
                    self._retired.append((time.monotonic() + RETIRED_SECONDS, self._channel))
                    self._channel, self._tls = self._connect(tls), tls
                self._close_retired(time.monotonic())
        return self._channel

    def _close_retired(self, now: float) -> None:
        while self._retired and self._retired[0][0] <= now:
            self._retired.pop(0)[1].close()

    def close(self) -> None:
        """Close everything that is open; calls in flight are cancelled."""
        with self._lock:
            self._closed = True
            self._close_retired(float("inf"))
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool | None = False) -> None:  # noqa: FBT001, FBT002 - gRPC's signature
        """Tell of the connectivity of the channel that is newest now."""
        self.newest.subscribe(callback, try_to_connect=bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        """Tell no more; callbacks of retired channels end with these."""
        self._channel.unsubscribe(callback)

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return _Method(self, "unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return _Method(self, "unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return _Method(self, "stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return _Method(self, "stream_stream", args, options)

    def with_token(self, metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
        """Return a call's own metadata with the token."""
        return (*(metadata or ()), *self._credentials.metadata())


class _Method:
    """One method of a `SecuredChannel`, of any of gRPC's four kinds."""

    def __init__(
        self, channel: SecuredChannel, kind: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._kind, self._args, self._options = kind, args, options
        self._bound: tuple[grpc.Channel, Any] | None = None

    def _newest(self) -> Any:
        bound, channel = self._bound, self._channel.newest
        if bound is None or bound[0] is not channel:
            bound = self._bound = (channel, getattr(channel, self._kind)(*self._args, **self._options))
        return bound[1]

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
        return self._newest()(request, timeout, self._channel.with_token(metadata), **rest)

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
        """See `grpc.UnaryUnaryMultiCallable`."""
        return self._newest().with_call(request, timeout, self._channel.with_token(metadata), **rest)

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
        """See `grpc.UnaryUnaryMultiCallable`."""
        return self._newest().future(request, timeout, self._channel.with_token(metadata), **rest)
