"""What happens around every unary call: who calls, request id, deadline, admission, error mapping, metrics.

One interceptor does all of it; what can be computed once per method is: this is on the path of every request.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from matchloop.days import SECONDS_A_DAY
from matchloop.errors import DeadlinePassed, InvalidInput, MatchloopError, NotImplementedYet, Overloaded
from matchloop.observe import faults, logs, tracing
from matchloop.rpc import deadline, spans
from matchloop.rpc.status import REQUEST_ID_KEY, WireStatus, code_of, internal_status, to_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from matchloop.observe.metrics import Metrics
    from matchloop.rpc.guard import Guard
    from matchloop.rpc.tokens import Holder

    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour = Callable[[Any, Any], Any]

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
NO_DEADLINE_SECONDS = 366 * SECONDS_A_DAY
"""gRPC tells "no deadline" as one that lies centuries ahead; more than this means none."""

UNREADABLE = object()
"""Stands for a request whose bytes are no message of its type."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_arrived: ContextVar[float] = ContextVar("matchloop_arrived")
_holder: ContextVar[Holder | None] = ContextVar("matchloop_holder", default=None)
_log = logs.get_logger()


class CountingPool(ThreadPoolExecutor):
    """A thread pool that knows how many calls it has accepted and not finished: `load`, queued ones too."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._unfinished: set[Future[Any]] = set()

    @property
    def load(self) -> int:
        """Calls accepted and not finished."""
        return len(self._unfinished)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Accept a call."""
        future = super().submit(fn, *args, **kwargs)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """The handlers that stand in for one method's own."""

    original: Behaviour
    serve: Handler
    refuse: Handler


class CallInterceptor(grpc.ServerInterceptor):
    """The one server interceptor.

    Parameters
    ----------
    metrics
        Counts calls by code, times them from arrival (queueing included), counts bugs.
    pool
        The server's pool; calls that come while its load is at `most` are answered Overloaded at once.
    most
        Calls accepted at a time.
    aside
        A small pool for what must be answered however busy `pool` is: refusals and health checks.
    streams
        A small pool for streams (reflection), which may idle for as long as their client likes.
    default_deadline
        Seconds for a call whose caller set no deadline.
    guard
        Asks who calls; None: nobody is asked.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        pool: CountingPool,
        most: int,
        aside: ThreadPoolExecutor,
        streams: ThreadPoolExecutor,
        default_deadline: float = deadline.DEFAULT_DEADLINE,
        guard: Guard | None = None,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._most = most
        self._aside = aside
        self._streams = streams
        self._default_deadline = default_deadline
        self._guard = guard
        self._wrapped: dict[str, _Wrapped] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Choose the handler of one call; streams and unknown methods have no more than their own."""
        if self._guard is not None:
            try:
                asked = handler_call_details.method, handler_call_details.invocation_metadata
                _holder.set(self._guard.admit(*asked))
            except MatchloopError as refusal:
                return self._refusal(handler_call_details.method, refusal)
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return self._stream(handler)
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None or wrapped.original is not handler.unary_unary:
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        _arrived.set(time.perf_counter())
        if self._pool.load >= self._most and method != HEALTH_CHECK:
            return wrapped.refuse
        return wrapped.serve

    def _refusal(self, method: str, error: MatchloopError) -> Handler:
        """Return a handler that refuses a call of any kind, without waiting for its request."""
        if self._guard is not None and self._guard.knows(method):
            service, _, name = method.lstrip("/").partition("/")
            self._metrics.grpc_requests.labels(service, name, code_of(error).name).inc()

        def refused(_requests: Any, context: Any) -> NoReturn:
            context.abort_with_status(to_status(error, request_id=_request_id(context)))
            raise AssertionError("abort_with_status returned")  # pragma: no cover

        refused.experimental_thread_pool = self._aside  # type: ignore[attr-defined]  # as in `_wrap`
        return grpc.stream_unary_rpc_method_handler(refused)

    def _guarded(self, method: str, behaviour: Behaviour) -> Behaviour:
        guard = self._guard
        if guard is None or method == HEALTH_CHECK:
            return behaviour

        def entered(request: Any, context: Any) -> Any:
            guard.enter(method, _holder.get(), context.peer)
            return behaviour(request, context)

        return entered

    def _stream(self, handler: Handler | None) -> Handler | None:
        if handler is None or handler.stream_stream is None:
            return handler
        inner = handler.stream_stream

        def called(requests: Any, context: Any) -> Any:
            return inner(requests, context)

        called.experimental_thread_pool = self._streams  # type: ignore[attr-defined]  # as in `_wrap`
        return grpc.stream_stream_rpc_method_handler(
            called, handler.request_deserializer, handler.response_serializer
        )

    def _wrap(self, method: str, handler: Handler) -> _Wrapped:
        assert handler.unary_unary is not None
        serve = self._around(method, self._guarded(method, handler.unary_unary))
        refuse = self._around(method, _refuse)
        refuse.experimental_thread_pool = self._aside  # type: ignore[attr-defined]  # read by grpc's server
        if method == HEALTH_CHECK:
            serve.experimental_thread_pool = self._aside  # type: ignore[attr-defined]

        def same_wire(behaviour: Behaviour) -> Handler:
            return grpc.unary_unary_rpc_method_handler(
                behaviour, _reader(handler.request_deserializer), handler.response_serializer
            )

        return _Wrapped(handler.unary_unary, same_wire(serve), same_wire(refuse))

    def _around(self, method: str, behaviour: Behaviour) -> Behaviour:
        service, _, name = method.lstrip("/").partition("/")
        count_ok = self._metrics.grpc_requests.labels(service, name, "OK").inc
        observe = self._metrics.grpc_latency.labels(service, name).observe
        self._metrics.unexpected_errors.labels(service, name)
        clock = time.perf_counter

        def called(request: Any, context: Any) -> Any:
            request_id = _request_id(context)
            logs.request_id.set(request_id)
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            try:
                self._begin_deadline(context)
                response = (_not_read if request is UNREADABLE else behaviour)(request, context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary: everything becomes a status
                observe(clock() - _arrived.get())
                self._fail(service, name, error, context)
            observe(clock() - _arrived.get())
            own = context.code()
            if own is None:
                count_ok()
            else:
                self._metrics.grpc_requests.labels(service, name, own.name).inc()
            return response

        traced = tracing.is_on() and method != HEALTH_CHECK
        return spans.served(method, called, _arrived.get) if traced else called

    def _begin_deadline(self, context: Any) -> None:
        left = context.time_remaining()
        if left is None or left > NO_DEADLINE_SECONDS:
            left = self._default_deadline
        elif left <= 0.0:
            raise DeadlinePassed("the deadline passed before the call was begun")
        deadline.begin(left)

    def _fail(self, service: str, name: str, error: Exception, context: Any) -> NoReturn:
        """Answer `error` as a status; what the servicer aborted itself goes through as it is."""
        own = context.code()
        if own is not None and type(error) is Exception and not error.args:
            self._metrics.grpc_requests.labels(service, name, own.name).inc()
            raise error
        status = self._status_of(service, name, error)
        self._metrics.grpc_requests.labels(service, name, status.code.name).inc()
        context.abort_with_status(status)
        raise AssertionError("abort_with_status returned")  # pragma: no cover

    def _status_of(self, service: str, name: str, error: Exception) -> WireStatus:
        request_id = logs.request_id.get() or ""
        if isinstance(error, MatchloopError):
            return to_status(error, request_id=request_id)
        if isinstance(error, NotImplementedError):  # what the generated base class raises
            return to_status(NotImplementedYet(f"{name} is not implemented yet"), request_id=request_id)
        self._metrics.unexpected_errors.labels(service, name).inc()
        # Told here: a formatter that shows local variables would show the request.
        _log.error("unexpected_error", rpc_service=service, rpc_method=name, exception=faults.told(error))
        return internal_status(request_id=request_id)


def _reader(read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Return a reader that gives `UNREADABLE` where `read` raises, which gRPC would answer with INTERNAL."""
    assert read is not None

    def tried(sent: bytes) -> Any:
        try:
            return read(sent)
        except DecodeError:
            return UNREADABLE

    return tried


def _not_read(_request: Any, _context: Any) -> NoReturn:
    raise InvalidInput("the request's bytes are no message of this method")


def _refuse(_request: Any, _context: Any) -> NoReturn:
    raise Overloaded("as many calls as this server takes are in flight; retry later")


def _request_id(context: Any) -> str:
    """Return the caller's request id if it is printable ASCII of at most 128 characters, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return logs.new_request_id()
