"""Takes calls from the HTTP/2 server to their handlers, and makes a status of everything that goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine
from typing import Any, Final, cast

import structlog
from h2corn import HTTPScope, Receive, Scope, Send

from danube_common.errors import DanubeError, LimitExceeded, Unavailable
from danube_common.rpc.answer import OK_EVENT, OPENING_EVENT, Answer, ClientLeft, refusal_of_http, send_text
from danube_common.rpc.call_counts import CallCounts
from danube_common.rpc.call_head import CallHead, head_of
from danube_common.rpc.first_step import ENDED, Ended, FirstStep, begun, run_first_steps
from danube_common.rpc.grpc_framing import PREFIX, framed
from danube_common.rpc.guard import Access, Guard, StreamAccess
from danube_common.rpc.port import Call, Framed, Methods, Opened, RpcError, StatusCode, UnaryHandler, answered
from danube_common.rpc.request import (
    MessageLimit,
    Request,
    arrived_message,
    call_of,
    is_end,
    peer_of,
    single_message,
    small_message,
)
from danube_common.rpc.running import ARRIVED, Caller, Peer, Running, RunningCall, client_deadline
from danube_common.tracing.current import enter_call, leave_call

_REFUSALS: Final = {
    LimitExceeded: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
}
"""What the server itself refuses with, where ``on_error`` says nothing of it."""
_NOT_ALLOWED: Final = (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED)
SENT_TYPE: Final = "_ReadyNone"
"""What the library answers to an event that was sent. Anything else is awaited."""
STOPPING: Final = "the server is stopping"
_LEFT: Final = RpcError(StatusCode.CANCELLED, "the call was cancelled")
"""Usually told to nobody, as the client has left."""
DENIED_STREAM_PAUSE_S: Final = 1.0
"""Before a stream is told that it is not allowed: some clients open it again at once and for ever."""
CALLERS_MAX: Final = 100_000
"""Peers noted between two counts of connections; one beyond it is noted by a later call."""
DENIED_STREAMS_MAX: Final = 256
"""Streams in this pause at one time; beyond it they are told at once."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")

Answering = Coroutine[Any, Any, None] | FirstStep | Ended
"""What answers a call, for the library's ``loop.create_task``: later, begun already, or done."""
Messages = AsyncGenerator[bytes | list[bytes] | Framed | Opened, None]


class Dispatcher:
    """The application behind the HTTP/2 server.

    Args:
        methods: what to answer.
        limit: of a message of a request.
        calls: the unary calls that run, and their bound.
        streams: the server and bidirectional streams that run, and their bound.
        counts: of the calls that have ended.
        guard: admits the calls; None: all are.

    Attributes:
        callers: if set, the peers of calls are added to it.
        called_at: when the last unary call came, by `time.monotonic`.
        stopping: refuse all calls.
        still_served: if set, the unary methods that are not refused.
    """

    def __init__(
        self,
        methods: Methods,
        limit: MessageLimit,
        calls: Running,
        streams: Running,
        counts: CallCounts,
        guard: Guard | None = None,
    ) -> None:
        self._methods = methods
        self._counts = counts
        self._guard = guard
        self._limit = limit
        self._calls = calls
        self._streams = streams
        self.callers: set[Peer] | None = None
        self.called_at = 0.0
        self.stopping = False
        self.still_served: Collection[str] | None = None
        self._pausing = 0
        self._waiting: set[str] = set()
        """The unary methods whose last call waited: the next one gets its coroutine at once."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_first_steps(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the first step of unary calls of this loop at once (`danube_common.rpc.first_step`)."""
        self._loop = loop
        run_first_steps(loop, Dispatcher._unary.__code__, _tell.__code__)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Answering:
        """Answer one call, at once or by what is returned."""
        if self.callers is not None and len(self.callers) < CALLERS_MAX and scope["type"] == "http":
            self.callers.add(scope.get("client"))
        if scope["type"] == "http" and (unary := self._methods.unary.get(scope["path"])) is not None:
            if (
                self._loop is not None
                and scope["path"] not in self._waiting
                and asyncio.current_task(self._loop) is None
            ):
                return self._begin(unary, scope, receive, send, self._loop)
            return self._unary(unary, scope, receive, send)
        return self._any(scope, receive, send)

    def _begin(
        self,
        handler: UnaryHandler,
        scope: HTTPScope,
        receive: Receive,
        send: Send,
        loop: asyncio.AbstractEventLoop,
    ) -> Answering:
        """Answer a unary call of the usual kind; what waits goes on in a coroutine, as does any other call.

        The path of every message makes no object that it can do without. Nothing waits here, so that a call
        that is answered here is not counted among those that run. One that waits is counted before the next
        one is admitted.
        """
        head = head_of(tuple(scope["headers"]))
        access: Access | None = None
        if self._guard is not None and (access := self._guard.known(scope, head.headers)) is None:
            return self._unary(handler, scope, receive, send)
        if (
            head.has_deadline
            or self.stopping
            or self.still_served is not None
            or refusal_of_http(scope, head)
        ):
            return self._unary(handler, scope, receive, send)
        request = arrived_message(receive, head, self._limit)
        if not isinstance(request, bytes):
            return self._unary(handler, scope, request, send)
        name, caller = scope["path"], _caller(scope, access)
        self.called_at = time.monotonic()
        try:
            self._calls.admit(caller)
            call = call_of(scope, head, request)
            enter_call(call)
            if access is not None and self._guard is not None:
                self._guard.authorize(call, access)
            answer = handler(call)
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            return _tell(send, self._error_of(name, raised))
        except asyncio.CancelledError:
            return _tell(send, self._error_of(name, self._cancelled_inside(name)))
        finally:
            leave_call()
        if not isinstance(answer, bytes):
            self._waiting.add(name)
            return begun(loop, self._wait(answer, call, scope.get("client"), caller, send))
        return self._respond(name, answer, send)

    async def _wait(
        self, answer: Awaitable[bytes], call: Call, peer: Peer, caller: Caller, send: Send
    ) -> None:
        """Go on with a unary call whose handler waits."""
        name = call.method
        try:
            running = self._calls.count(peer, caller, self._loop)
            running.waited = ARRIVED
            enter_call(call)
            try:
                with running:
                    response = await answer
            except asyncio.CancelledError:
                self._check_cancelled(name, running)
                await _tell(send, _LEFT)
                return
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            await _tell(send, self._error_of(name, raised))
            return
        await self._respond(name, response, send)

    def _respond(self, name: str, response: bytes, send: Send) -> Answering:
        """Send the answer; return what sends the rest of one that its client takes slowly.

        The library takes an event when it is called. A body may wait until the client has taken earlier ones:
        an end that comes before would break the call off.
        """
        self._counts.succeeded(name)
        try:
            send(OPENING_EVENT)
            body = send({"type": "http.response.body", "body": PREFIX.pack(0, len(response)) + response})
            if type(body).__name__ != SENT_TYPE:
                return _end(body, send)
            send(OK_EVENT)
        except OSError:
            pass  # the client left
        return ENDED

    async def _unary(self, handler: UnaryHandler, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer a unary call of any kind.

        It always gets an answer: without one the library answers with HTTP's status 500, which a client that
        is still there takes for a fault.
        """
        head = head_of(tuple(scope["headers"]))
        if refusal := refusal_of_http(scope, head):
            await send_text(send, *refusal)
            return
        name = scope["path"]
        access: Access | None = None
        try:
            if self._guard is not None:
                access = self._guard.known(scope, head.headers) or await self._admit(scope, head)
            self.called_at = time.monotonic()
            if self.stopping or (self.still_served is not None and name not in self.still_served):
                raise _stopping()
            running = _entered(self._calls, scope, access, self._loop)
            try:
                with running:
                    event = await receive()
                    request = small_message(event, head, self._limit)
                    # That no more bytes come is often an event of its own.
                    if request is None or (event.get("more_body") and not is_end(last := await receive())):
                        earlier = (event,) if request is None else (event, last)
                        request = await single_message(head, receive, self._limit, running.hold, earlier)
                        if request is None:
                            await _tell(send, _LEFT)
                            return
                    running.waited = ARRIVED
                    call = call_of(scope, head, request)
                    enter_call(call)
                    if access is not None and self._guard is not None:
                        self._guard.authorize(call, access)
                    if head.has_deadline:
                        async with client_deadline(name, head):
                            response = await answered(handler, call)
                    else:
                        answer = handler(call)
                        response = answer if isinstance(answer, bytes) else await answer
                        if response is answer:
                            self._waiting.discard(name)
            except asyncio.CancelledError:
                self._check_cancelled(name, running)
                await _tell(send, _LEFT)
                return
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            await _tell(send, self._error_of(name, raised))
            return
        except asyncio.CancelledError:  # while the caller was to be admitted
            await _tell(send, self._left())
            return
        await self._respond(name, response, send)

    async def _any(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call that is not unary, or refuse it."""
        if scope["type"] != "http":
            return
        head = head_of(tuple(scope["headers"]))
        if refusal := refusal_of_http(scope, head):
            await send_text(send, *refusal)
            return
        name = scope["path"]
        answer = Answer(send)
        try:
            access = None
            if self._guard is not None:
                access = self._guard.known(scope, head.headers) or await self._admit(scope, head)
            if (stream := self._methods.stream.get(name)) is not None:
                await self._answer_stream(stream, scope, head, receive, answer, access)
            elif (bidi := self._methods.bidi.get(name)) is not None:
                await self._answer_stream(bidi, scope, head, receive, answer, access, bidi=True)
            else:
                raise self._methods.unknown(name)
            self._counts.succeeded(name)
        except ClientLeft:
            return
        except asyncio.CancelledError:  # while the caller was to be admitted
            with contextlib.suppress(ClientLeft):
                await answer.end(self._left())
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            error = self._error_of(name, raised)
            if self._guard is not None and error.code in _NOT_ALLOWED:
                await self._pause()
            with contextlib.suppress(ClientLeft):
                await answer.end(error)

    def _error_of(self, name: str, raised: Exception) -> RpcError:
        """Return what the client is told of a failure, which is counted."""
        error = raised if isinstance(raised, RpcError) else self._status_of(name, raised)
        self._counts.ended(name if self._methods.has(name) else "", error.code)
        return error

    async def _admit(self, scope: HTTPScope, head: CallHead) -> Access | None:
        if self._guard is None:
            return None
        return await self._guard.admit(scope, head.headers, peer_of(scope.get("client")))

    async def _pause(self) -> None:
        if self._pausing >= DENIED_STREAMS_MAX:
            return
        self._pausing += 1
        try:
            await asyncio.sleep(DENIED_STREAM_PAUSE_S)
        finally:
            self._pausing -= 1

    async def _answer_stream(
        self,
        handler: Callable[..., object],
        scope: HTTPScope,
        head: CallHead,
        receive: Receive,
        answer: Answer,
        access: Access | None,
        *,
        bidi: bool = False,
    ) -> None:
        name = scope["path"]
        if self.stopping or self.still_served is not None:
            raise _stopping()
        running = _entered(self._streams, scope, access, self._loop)
        try:
            with running, contextlib.ExitStack() as allowed:
                request = b"" if bidi else await single_message(head, receive, self._limit, running.hold)
                if request is None:
                    with contextlib.suppress(ClientLeft):
                        await answer.end(_LEFT)
                    return
                running.waited = ARRIVED
                call = call_of(scope, head, request)
                enter_call(call)
                stream: StreamAccess | None = None
                if access is not None and self._guard is not None:
                    stream = allowed.enter_context(self._guard.stream(call, access, running.end))
                opened = handler(call, Request(head, receive, self._limit)) if bidi else handler(call)
                messages = cast("Messages", opened)
                # A cancelled write leaves the generator suspended at its yield: close it here, not when
                # the collector finds it.
                async with client_deadline(name, head), contextlib.aclosing(messages):
                    async for message in messages:
                        if isinstance(message, Opened):
                            await answer.open_now()
                            continue
                        if stream is not None:
                            stream.check_used()
                        if isinstance(message, Framed):
                            await answer.write(message.data)
                        else:
                            await answer.write(framed([message] if isinstance(message, bytes) else message))
        except asyncio.CancelledError:
            self._check_cancelled(name, running)
            with contextlib.suppress(ClientLeft):
                await answer.end(_LEFT)
            return
        await answer.end(None)

    def _left(self) -> RpcError:
        """Return what a call is told that was cancelled before it was counted."""
        return RpcError(StatusCode.UNAVAILABLE, STOPPING) if self.stopping else _LEFT

    def _check_cancelled(self, name: str, running: RunningCall) -> None:
        """Return if a call was cancelled because its client went away; else raise what the client is told."""
        from_outside = running.uncancel()
        if self.stopping:
            raise _stopping() from None
        if running.status is not None:
            raise running.status from None
        if not from_outside:
            raise self._cancelled_inside(name) from None

    def _cancelled_inside(self, name: str) -> RpcError:
        """Return what the client is told of a handler that has raised a cancellation, which is logged."""
        _log.exception("rpc_failed", method=name)
        return RpcError(StatusCode.INTERNAL, "internal error")

    def _status_of(self, name: str, raised: Exception) -> RpcError:
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


def _caller(scope: HTTPScope, access: Access | None) -> Caller:
    """Return who the call is counted for."""
    if access is not None and (identity := access.identity) is not None:
        return identity
    client = scope.get("client")
    return client[0] if client else ""


def _entered(
    running: Running, scope: HTTPScope, access: Access | None, loop: asyncio.AbstractEventLoop | None
) -> RunningCall:
    """Return a context in which the call is counted. Raises LimitExceeded."""
    caller = _caller(scope, access)
    running.admit(caller)
    return running.count(scope.get("client"), caller, loop)


def _stopping() -> Unavailable:
    return Unavailable(STOPPING)


async def _end(body: Awaitable[None], send: Send) -> None:
    """End an answer when its body was sent."""
    with contextlib.suppress(OSError):  # the client left
        await body
        await send(OK_EVENT)


async def _tell(send: Send, error: RpcError) -> None:
    """End a call that has not begun to answer with a status."""
    with contextlib.suppress(ClientLeft):
        await Answer(send).end(error)
