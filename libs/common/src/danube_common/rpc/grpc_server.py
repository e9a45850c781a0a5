"""The RPC server: `grpc.aio` behind the seam of `rpc.port`.

Handlers are registered as coroutines over identity serializers. Measured with 64 unary calls of 1 KiB in
flight on two shared cores: a ``unary_unary`` coroutine costs 165-170 us of CPU per call, the same
method as ``unary_stream`` 180-200 us, as ``stream_stream`` with explicit reads 200 us; building the
metadata mapping and the peer's name adds about 5 us.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import grpc
import grpc.aio
import structlog

from danube_common.errors import DanubeError, LimitExceeded, Unavailable
from danube_common.rpc.port import Call, Methods, Opened, RpcError, StatusCode, StreamHandler, UnaryHandler
from danube_common.runtime.address import bind, join_address, split_address

if TYPE_CHECKING:  # generic in the stubs only
    _Context = grpc.aio.ServicerContext[bytes, bytes]
    _Handler = grpc.RpcMethodHandler[bytes, bytes]

STREAMS_MAX: Final = 10_000
"""Server streams open at one time, unless the caller says otherwise."""

CALLS_PENDING_MAX: Final = 1024
"""Calls begun by clients whose request has not arrived in full, over and above the two bounds."""

CLEANUP_S_MAX: Final = 5.0
"""How long `GrpcServer.stop` waits for the ``finally`` of cancelled handlers."""

STATUS_BYTES_MAX: Final = 1300
"""A status's message is cut to so many bytes, and a longer trailer is left out: percent or base64 encoding
enlarges them, and peers refuse a call whose headers are over 8 KiB."""

RECEIVE_FACTOR: Final = 2
"""A request up to so many times the bound is received, so that the refusal can say what is wrong; the library
refuses a larger one in its own words."""

QUIET_POLL_S: Final = 0.02

_REFUSALS: Final = {
    LimitExceeded: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
}
"""What the server itself refuses with, where ``on_error`` says nothing of it."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")
_STATUS: Final = {StatusCode(status.value[0]): status for status in grpc.StatusCode if status.value[0] < 15}


class GrpcServer:
    """Serves `Methods` over gRPC on one port, without TLS.

    Args:
        methods: what to answer.
        message_bytes_max: a larger request ends with RESOURCE_EXHAUSTED before a handler sees it.
        message_bytes_hint: where the bound comes from, told to a client whose request is larger.
        concurrent_calls_max: unary handlers running at one time; further calls are answered
            RESOURCE_EXHAUSTED at once.
        streams_max: the same bound for server streams, counted apart because they are long-lived.
        keepalive_s: a peer that is silent this long is pinged.
        keepalive_timeout_s: a ping unanswered this long ends the connection and cancels its calls.
    """

    def __init__(
        self,
        methods: Methods,
        *,
        message_bytes_max: int,
        message_bytes_hint: str = "",
        concurrent_calls_max: int,
        streams_max: int = STREAMS_MAX,
        keepalive_s: float = 10.0,
        keepalive_timeout_s: float = 5.0,
    ) -> None:
        twice = methods.unary.keys() & methods.stream.keys()
        if twice:
            raise ValueError(f"registered as unary and as stream: {', '.join(sorted(twice))}")
        self._methods = methods
        self._message_bytes_max = message_bytes_max
        self._message_bytes_hint = message_bytes_hint
        self._concurrent_calls_max = concurrent_calls_max
        self._streams_max = streams_max
        self._options = {
            "grpc.so_reuseport": 0,
            "grpc.max_receive_message_length": RECEIVE_FACTOR * message_bytes_max,
            "grpc.max_send_message_length": -1,
            "grpc.keepalive_time_ms": int(keepalive_s * 1000),
            "grpc.keepalive_timeout_ms": int(keepalive_timeout_s * 1000),
            # Seen with 1.85: this bound, a minute by default, ends the connection, not keepalive_timeout_ms.
            "grpc.http2.ping_timeout_ms": int(keepalive_timeout_s * 1000),
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.max_pings_without_data": 0,
            # Clients may ping as often as they like: a client that is cut off for it comes back at once.
            "grpc.http2.max_ping_strikes": 0,
        }
        self._calls = 0
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._still_served: frozenset[str] | None = None
        self._called_at = 0.0
        self._server: grpc.aio.Server | None = None

    async def start(self, addr: str) -> str:
        """Listen on ``addr``, ``host:port`` or ``[v6]:port``; port 0 takes a free one.

        Returns:
            The bound ``host:port``.

        Raises:
            OSError: the address cannot be had; the text names it and the reason.
            ValueError: ``addr`` is no address.
        """
        if self._server is not None:
            raise RuntimeError("the server was started before")
        host, port = split_address(addr)
        with bind(addr) as probe:  # because the library's own failure does not name a reason
            literal = str(probe.getsockname()[0])
        self._server = grpc.aio.server(
            options=tuple(self._options.items()),
            maximum_concurrent_rpcs=self._concurrent_calls_max + self._streams_max + CALLS_PENDING_MAX,
        )
        self._server.add_generic_rpc_handlers((_Lookup(self._handlers(), self._methods.unknown),))
        try:
            port = self._server.add_insecure_port(join_address(literal, port))
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {addr}") from error
        await self._server.start()
        return join_address(host, port)

    async def drain(self, still_served: Collection[str], *, quiet_s: float, timeout_s: float) -> None:
        """Refuse all calls but those of some methods with UNAVAILABLE, until the clients have moved on.

        A call that comes at the very moment of `stop` may end as CANCELLED before any handler sees it, and
        not every client takes that for a reason to try again. So the end comes when there are none.

        Args:
            still_served: full names of the unary methods that go on being served.
            quiet_s: returns when no unary call runs and none has come for so long,
            timeout_s: or after so long.
        """
        self._still_served = frozenset(still_served)
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        # That nothing comes has no event.
        while clock() < deadline and (self._calls or clock() < self._called_at + quiet_s):  # noqa: ASYNC110
            await asyncio.sleep(QUIET_POLL_S)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, end streams with UNAVAILABLE, and let unary calls finish for ``grace_s``.

        Returns when no handler runs any more. Idempotent.
        """
        if self._server is None or self._stopping.is_set():
            return
        self._stopping.set()
        stopped = asyncio.ensure_future(self._server.stop(grace_s))
        streams = set(self._streams)
        for task in streams:
            task.cancel()
        await stopped
        streams |= self._streams
        if streams:
            _done, left = await asyncio.wait(streams, timeout=CLEANUP_S_MAX)
            if left:
                _log.error("rpc_streams_not_closed", streams=len(left))

    def _handlers(self) -> dict[str, _Handler]:
        handlers: dict[str, _Handler] = {}
        for name, unary in self._methods.unary.items():
            handlers[name] = grpc.unary_unary_rpc_method_handler(cast("Any", self._unary(name, unary)))
        for name, stream in self._methods.stream.items():
            handlers[name] = grpc.unary_stream_rpc_method_handler(cast("Any", self._stream(name, stream)))
        return handlers

    def _unary(self, name: str, handler: UnaryHandler) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def answer(request: bytes, context: _Context) -> bytes:
            self._called_at = asyncio.get_running_loop().time()
            if self._still_served is not None and name not in self._still_served:
                await _abort(context, self._status_of(name, _stopping()))
            if over := self._over(request, "concurrent_calls_max", self._calls, self._concurrent_calls_max):
                await _abort(context, over)
            self._calls += 1
            try:
                return await handler(_call(name, request, context))
            except asyncio.CancelledError:
                task = cast("asyncio.Task[Any]", asyncio.current_task())
                if context.cancelled() or task.cancelling() or self._stopping.is_set():
                    raise  # the client went away; the context may learn of it later than the task
                # A cancellation from inside would leave the client without any status.
                _log.exception("rpc_failed", method=name)
                error = RpcError(StatusCode.INTERNAL, "internal error")
            except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
                error = self._status_of(name, raised)
            finally:
                self._calls -= 1
            return await _abort(context, error)

        return answer

    def _stream(self, name: str, handler: StreamHandler) -> Callable[[bytes, _Context], Awaitable[None]]:
        async def answer(request: bytes, context: _Context) -> None:
            if self._stopping.is_set() or self._still_served is not None:
                await _abort(context, self._status_of(name, _stopping()))
            if over := self._over(request, "streams_max", len(self._streams), self._streams_max):
                await _abort(context, over)
            task = cast("asyncio.Task[Any]", asyncio.current_task())
            self._streams.add(task)
            try:
                messages = cast(
                    "AsyncGenerator[bytes | Opened, None]", handler(_call(name, request, context))
                )
                # A cancelled write leaves the generator suspended at its yield: close it here, not when
                # the collector finds it.
                async with contextlib.aclosing(messages):
                    async for message in messages:
                        if isinstance(message, Opened):
                            await context.send_initial_metadata(())
                        else:
                            await context.write(message)
                return
            except asyncio.CancelledError:
                if self._stopping.is_set() and not context.cancelled():
                    task.uncancel()
                    error = self._status_of(name, _stopping())
                elif context.cancelled() or task.cancelling():
                    raise  # the client went away; the context may learn of it later than the task
                else:
                    _log.exception("rpc_failed", method=name)
                    error = RpcError(StatusCode.INTERNAL, "internal error")
            except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
                if context.cancelled() or context.done():
                    return  # the write failed because the client went away
                error = self._status_of(name, raised)
            finally:
                self._streams.discard(task)
            await _abort(context, error)

        return answer

    def _status_of(self, name: str, raised: Exception) -> RpcError:
        if isinstance(raised, RpcError):
            return raised
        mapped: RpcError | None = None
        try:
            mapped = self._methods.on_error(raised)
        except Exception:  # noqa: BLE001 - a mapping with a fault must not hide the first one
            _log.exception("rpc_error_mapping_failed", method=name)
        if not isinstance(raised, DanubeError) or (mapped is None and type(raised) not in _REFUSALS):
            _log.error("rpc_failed", method=name, exc_info=raised)
        if mapped is not None:
            return mapped
        code = _REFUSALS.get(type(raised), StatusCode.INTERNAL)
        return RpcError(code, str(raised) if type(raised) in _REFUSALS else "internal error")

    def _over(self, request: bytes, bound: str, in_use: int, limit: int) -> RpcError | None:
        """The status of a call that is one too many or too large; None if it is neither."""
        if in_use >= limit:
            text = f"{bound} ({limit}) is reached, try again later"
        elif len(request) > self._message_bytes_max:
            bound = "message_bytes_max"
            text = f"the request has {len(request)} bytes, and at most {self._message_bytes_max} are taken"
            if self._message_bytes_hint:
                text = f"{text}: {self._message_bytes_hint}"
        else:
            return None
        return self._status_of(bound, LimitExceeded(bound, text))


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")


class _Lookup(grpc.GenericRpcHandler):
    """Finds a handler by the method's full name; an unknown name gets one that refuses."""

    def __init__(self, handlers: Mapping[str, _Handler], unknown: Callable[[str], RpcError]) -> None:
        self._handlers = handlers
        self._unknown = unknown

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        method = handler_call_details.method
        return self._handlers.get(method) or self._refusing(method)

    def _refusing(self, method: str) -> _Handler:
        async def refuse(_request: bytes, context: _Context) -> bytes:
            await _abort(context, self._unknown(method))

        return grpc.unary_unary_rpc_method_handler(cast("Any", refuse))


def _call(name: str, request: bytes, context: _Context) -> Call:
    metadata = cast("Any", context.invocation_metadata())
    return Call(name, request, dict(metadata or ()), context.peer())


async def _abort(context: _Context, error: RpcError) -> NoReturn:
    code, trailers = _STATUS[error.code], tuple(error.trailers.items())
    message = error.message.encode(errors="replace")[:STATUS_BYTES_MAX].decode(errors="ignore")
    wrong = [key for key, value in trailers if isinstance(value, bytes) != key.endswith("-bin")]
    if wrong or error.code is StatusCode.OK:
        _log.error("rpc_status_malformed", code=error.code.name, message=message, trailers=wrong)
        code, message, trailers = grpc.StatusCode.INTERNAL, "internal error", ()
    large = {key for key, value in trailers if len(value) > STATUS_BYTES_MAX}
    if large:
        _log.error("rpc_trailers_left_out", code=error.code.name, message=message, trailers=sorted(large))
    sent = tuple((key.lower(), value) for key, value in trailers if key not in large)
    await context.abort(code, message, sent)
    raise AssertionError  # abort always raises
