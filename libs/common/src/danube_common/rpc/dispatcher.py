"""Takes calls from the HTTP/2 server to their handlers, and makes a status of everything that goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final, cast

import structlog
from h2corn import HTTPScope, Receive, Scope, Send

from danube_common.errors import DanubeError, LimitExceeded, Unavailable
from danube_common.rpc.answer import Answer, ClientLeft, refusal_of_http, send_text, send_unary
from danube_common.rpc.call_counts import CallCounts
from danube_common.rpc.call_head import CallHead, head_of
from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.guard import Access, Guard, StreamAccess
from danube_common.rpc.port import Framed, Methods, Opened, RpcError, StatusCode, UnaryHandler
from danube_common.rpc.request import MessageLimit, Request, call_of, peer_of, single_message
from danube_common.rpc.running import ARRIVED, Caller, Running, RunningCall, client_deadline

_REFUSALS: Final = {
    LimitExceeded: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
}
"""What the server itself refuses with, where ``on_error`` says nothing of it."""
_NOT_ALLOWED: Final = (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED)
DENIED_STREAM_PAUSE_S: Final = 1.0
"""Before a stream is told that it is not allowed: some clients open it again at once and for ever."""
DENIED_STREAMS_MAX: Final = 256
"""Streams in this pause at one time; beyond it they are told at once."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")

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
        self.called_at = 0.0
        self.stopping = False
        self.still_served: Collection[str] | None = None
        self._pausing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call. This is the path of every message: it makes no object that it can do without."""
        if scope["type"] != "http":
            return
        head = head_of(tuple(scope["headers"]))
        if refusal := refusal_of_http(scope, head):
            await send_text(send, *refusal)
            return
        name = scope["path"]
        answer = None
        access: Access | None = None
        try:
            if self._guard is not None:
                access = self._guard.known(scope, head.headers)
                if access is None:
                    access = await self._guard.admit(scope, head.headers, peer_of(scope.get("client")))
            if (unary := self._methods.unary.get(name)) is not None:
                await self._answer_unary(unary, scope, head, receive, send, access)
                self._counts.succeeded(name)
                return
            answer = Answer(send)
            if (stream := self._methods.stream.get(name)) is not None:
                await self._answer_stream(stream, scope, head, receive, answer, access)
            elif (bidi := self._methods.bidi.get(name)) is not None:
                await self._answer_stream(bidi, scope, head, receive, answer, access, bidi=True)
            else:
                raise self._methods.unknown(name)
            self._counts.succeeded(name)
        except ClientLeft:
            return
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            error = raised if isinstance(raised, RpcError) else self._status_of(name, raised)
            self._counts.ended(name if self._methods.has(name) else "", error.code)
            if self._guard is not None and error.code in _NOT_ALLOWED and name not in self._methods.unary:
                await self._pause()
            with contextlib.suppress(ClientLeft):
                await (answer or Answer(send)).end(error)

    async def _pause(self) -> None:
        if self._pausing >= DENIED_STREAMS_MAX:
            return
        self._pausing += 1
        try:
            await asyncio.sleep(DENIED_STREAM_PAUSE_S)
        finally:
            self._pausing -= 1

    async def _answer_unary(
        self,
        handler: UnaryHandler,
        scope: HTTPScope,
        head: CallHead,
        receive: Receive,
        send: Send,
        access: Access | None,
    ) -> None:
        name = scope["path"]
        self.called_at = time.monotonic()
        if self.stopping or (self.still_served is not None and name not in self.still_served):
            raise _stopping()
        running = self._calls.enter(scope.get("client"), _caller(scope, access))
        try:
            with running:
                request = await single_message(head, receive, self._limit, running.hold)
                if request is None:
                    return
                running.waited = ARRIVED
                call = call_of(scope, head, request)
                if access is not None and self._guard is not None:
                    self._guard.authorize(call, access)
                if head.has_deadline:
                    async with client_deadline(name, head):
                        response = await handler(call)
                else:
                    response = await handler(call)
        except asyncio.CancelledError:
            self._check_cancelled(name, running)
            return
        await send_unary(send, response)

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
        running = self._streams.enter(scope.get("client"), _caller(scope, access))
        try:
            with running, contextlib.ExitStack() as allowed:
                request = b"" if bidi else await single_message(head, receive, self._limit, running.hold)
                if request is None:
                    return
                running.waited = ARRIVED
                call = call_of(scope, head, request)
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
            return
        await answer.end(None)

    def _check_cancelled(self, name: str, running: RunningCall) -> None:
        """Return if a call was cancelled because its client went away; else raise what the client is told."""
        from_outside = running.uncancel()
        if self.stopping:
            raise _stopping() from None
        if running.status is not None:
            raise running.status from None
        if not from_outside:
            # A cancellation from inside would leave the client without any status.
            _log.exception("rpc_failed", method=name)
            raise RpcError(StatusCode.INTERNAL, "internal error") from None

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


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")
