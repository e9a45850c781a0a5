"""The RPC server: h2corn, an HTTP/2 server in Rust, behind the seam of `rpc.port`.

Why this library, and what is answered for at which layer: docs/adr/0025-a-front-in-rust.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Collection
from functools import lru_cache
from typing import Any, Final, cast

import structlog
from h2corn import (
    Config,
    HTTPResponseStart,
    HTTPResponseTrailers,
    HTTPScope,
    Receive,
    RequestPolicy,
    Scope,
    Send,
    SendMessage,
)
from h2corn import Server as HttpServer

from danube_common.errors import DanubeError, LimitExceeded, Unavailable
from danube_common.rpc.grpc_framing import (
    ENCODINGS,
    PREFIX,
    Headers,
    RequestBody,
    TooLarge,
    framed,
    metadata_of,
    status_headers,
    timeout_s_of,
)
from danube_common.rpc.port import Call, Methods, Opened, RpcError, StatusCode, StreamHandler, UnaryHandler
from danube_common.runtime.address import bind, join_address, split_address

STREAMS_MAX: Final = 10_000
"""Server streams open at one time, unless the caller says otherwise."""
CALLS_PENDING_MAX: Final = 1024
"""Calls begun by clients whose request has not arrived in full, over and above the two bounds."""
CONNECTIONS_MAX: Final = 20_000
HEADER_BYTES_MAX: Final = 16 * 1024
"""Of one call, compressed and not. Clients of gRPC send 8 KiB at most by default."""
HEADER_S_MAX: Final = 10.0
"""The header of a call must arrive within this time once it has begun."""
BODY_SLACK_BYTES: Final = 1 << 20
BODY_IDLE_S_MAX: Final = 60.0
"""A request that has begun ends when no byte of it comes for so long."""
WRITE_S_MAX: Final = 60.0
"""A connection that takes no byte for so long is closed, with its calls."""
CLEANUP_S_MAX: Final = 5.0
"""How long `RpcServer.stop` waits for the ``finally`` of cancelled handlers."""
PROBES: Final = 5
"""Unanswered probes of the kernel after which a silent peer is gone."""
QUIET_POLL_S: Final = 0.02

_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
_OPENING: Final[Headers] = [_CONTENT_TYPE, (b"grpc-accept-encoding", ENCODINGS)]
_OK: Final[Headers] = [(b"grpc-status", b"0")]
_OPENING_EVENT: Final[HTTPResponseStart] = {
    "type": "http.response.start",
    "status": 200,
    "headers": _OPENING,
    "trailers": True,
}
_OK_EVENT: Final[HTTPResponseTrailers] = {"type": "http.response.trailers", "headers": _OK}
_REFUSALS: Final = {
    LimitExceeded: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
}
"""What the server itself refuses with, where ``on_error`` says nothing of it."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")


class RpcServer:
    """Serves `Methods` over gRPC on one port, without TLS.

    Args:
        methods: what to answer.
        message_bytes_max: a larger request ends with RESOURCE_EXHAUSTED before a handler sees it.
        message_bytes_hint: where the bound comes from, told to a client whose request is larger.
        concurrent_calls_max: unary handlers running at one time; further calls are answered
            RESOURCE_EXHAUSTED at once.
        streams_max: the same bound for server streams, counted apart because they are long-lived.
        keepalive_s: the kernel probes a peer that is silent this long.
        keepalive_timeout_s: a peer that does not answer for so long then is gone: its calls are cancelled.
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
        self._keepalive_s = keepalive_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._calls: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._still_served: frozenset[str] | None = None
        self._called_at = 0.0
        self._clock = time.monotonic
        self._server: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None

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
        with bind(addr) as listener:
            _watch_peers(listener, self._keepalive_s, self._keepalive_timeout_s)
            self._server = HttpServer(cast("Any", self._answer), self._config(listener))
            self._serving = asyncio.create_task(self._server.serve(), name="rpc server")
            await self._server.wait_started()
            return join_address(split_address(addr)[0], listener.getsockname()[1])

    def _config(self, listener: socket.socket) -> Config:
        calls_max = self._concurrent_calls_max + self._streams_max + CALLS_PENDING_MAX
        policy = RequestPolicy(
            path="/*",
            # The last line: `RequestBody` refuses by the length that a message announces.
            max_request_body_size=4 * self._message_bytes_max + BODY_SLACK_BYTES,
            timeout_request_body_idle=BODY_IDLE_S_MAX,
            h2_timeout_response_stall=0,  # a consumer may pause for as long as it likes
        )
        return Config(
            bind=(f"fd://{listener.fileno()}",),
            grpc=True,
            lifespan="off",
            access_log=False,
            log_format="json",
            date_header=False,
            max_concurrent_streams=calls_max,
            limit_concurrency=calls_max,
            limit_connections=CONNECTIONS_MAX,
            limit_request_head_size=HEADER_BYTES_MAX,
            h2_max_header_list_size=HEADER_BYTES_MAX,
            h2_max_header_block_size=HEADER_BYTES_MAX,
            request_policies=(policy,),
            timeout_keep_alive=0,
            timeout_request_header=HEADER_S_MAX,
            timeout_graceful_shutdown=CLEANUP_S_MAX,
            h2_timeout_write=WRITE_S_MAX,
        )

    async def drain(self, still_served: Collection[str], *, quiet_s: float, timeout_s: float) -> None:
        """Refuse all calls but those of some methods with UNAVAILABLE, until the clients have moved on.

        A call that comes at the very moment of `stop` may end without a status before any handler sees it,
        and not every client takes that for a reason to try again. So the end comes when there are none.

        Args:
            still_served: full names of the unary methods that go on being served.
            quiet_s: returns when no unary call runs and none has come for so long,
            timeout_s: or after so long.
        """
        self._still_served = frozenset(still_served)
        deadline = self._clock() + timeout_s
        # That nothing comes has no event.
        while self._clock() < deadline and (  # noqa: ASYNC110
            self._calls or self._clock() < self._called_at + quiet_s
        ):
            await asyncio.sleep(QUIET_POLL_S)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, end streams with UNAVAILABLE, and let unary calls finish for ``grace_s``.

        Returns when no handler runs any more. Idempotent.
        """
        if self._server is None or self._serving is None or self._stopping:
            return
        self._stopping = True
        for task in self._streams:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=grace_s)
        for task in self._calls:
            task.cancel()
        if running := self._calls | self._streams:
            _done, left = await asyncio.wait(running, timeout=CLEANUP_S_MAX)
            if left:
                _log.error("rpc_calls_not_ended", calls=len(left))
        self._server.shutdown()
        await self._serving

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        if refusal := not _is_usual(scope, headers) and _refusal_of_http(scope, headers):
            await _send_text(send, *refusal)
            return
        answer = _Answer(send)
        name = scope["path"]
        try:
            if (unary := self._methods.unary.get(name)) is not None:
                await self._answer_unary(name, unary, scope, headers, receive, send)
            elif (stream := self._methods.stream.get(name)) is not None:
                await self._answer_stream(name, stream, scope, headers, receive, answer)
            else:
                raise self._methods.unknown(name)
        except _ClientLeft:
            return
        except Exception as raised:  # noqa: BLE001 - the boundary: everything becomes a status
            error = raised if isinstance(raised, RpcError) else self._status_of(name, raised)
            with contextlib.suppress(_ClientLeft):
                await answer.end(error)

    async def _answer_unary(
        self,
        name: str,
        handler: UnaryHandler,
        scope: HTTPScope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        """Run a unary call. This is the path of every message: it makes no object that it can do without."""
        self._called_at = self._clock()
        if self._stopping or (self._still_served is not None and name not in self._still_served):
            raise _stopping()
        _check_room("concurrent_calls_max", len(self._calls), self._concurrent_calls_max)
        run = _Run(name, self._calls)
        try:
            with run:
                call = await self._call(name, scope, headers, receive)
                if call is None:
                    return
                if b"grpc-timeout" in headers:
                    async with run.deadline(headers):
                        response = await handler(call)
                else:
                    response = await handler(call)
        except asyncio.CancelledError:
            self._check_cancelled(run)
            return
        with contextlib.suppress(OSError):  # the client left
            await send(_OPENING_EVENT)
            await send({"type": "http.response.body", "body": PREFIX.pack(0, len(response)) + response})
            await send(_OK_EVENT)

    async def _answer_stream(
        self,
        name: str,
        handler: StreamHandler,
        scope: HTTPScope,
        headers: dict[bytes, bytes],
        receive: Receive,
        answer: _Answer,
    ) -> None:
        if self._stopping or self._still_served is not None:
            raise _stopping()
        _check_room("streams_max", len(self._streams), self._streams_max)
        run = _Run(name, self._streams)
        try:
            with run:
                call = await self._call(name, scope, headers, receive)
                if call is None:
                    return
                messages = cast("AsyncGenerator[bytes | list[bytes] | Opened, None]", handler(call))
                # A cancelled write leaves the generator suspended at its yield: close it here, not when
                # the collector finds it.
                async with run.deadline(headers), contextlib.aclosing(messages):
                    async for message in messages:
                        if isinstance(message, Opened):
                            await answer.open_now()
                        else:
                            await answer.write([message] if isinstance(message, bytes) else message)
        except asyncio.CancelledError:
            self._check_cancelled(run)
            return
        await answer.end(None)

    def _check_cancelled(self, run: _Run) -> None:
        """Return if a call was cancelled because its client went away; else raise what the client is told."""
        from_outside = run.task.cancelling()
        while run.task.cancelling():
            run.task.uncancel()
        if self._stopping:
            raise _stopping() from None
        if not from_outside:
            # A cancellation from inside would leave the client without any status.
            _log.exception("rpc_failed", method=run.name)
            raise RpcError(StatusCode.INTERNAL, "internal error") from None

    async def _call(
        self, name: str, scope: HTTPScope, headers: dict[bytes, bytes], receive: Receive
    ) -> Call | None:
        """Receive the request; None if the client went away meanwhile. Raises RpcError, LimitExceeded."""
        try:
            body = RequestBody(self._message_bytes_max, headers.get(b"grpc-encoding", b"identity"))
            while True:
                event = await receive()
                if event["type"] != "http.request":
                    return None
                if chunk := event.get("body"):
                    body.add(chunk)
                if not event.get("more_body"):
                    break
            request = body.message()
        except TooLarge as error:
            raise self._too_large(error.size) from None
        return Call(name, request, metadata_of(scope["headers"]), _peer(scope.get("client")))

    def _too_large(self, size: int) -> LimitExceeded:
        have = f"{size} bytes" if size else f"more than {self._message_bytes_max} bytes once decompressed"
        text = f"the request has {have}, and at most {self._message_bytes_max} are taken"
        if self._message_bytes_hint:
            text = f"{text}: {self._message_bytes_hint}"
        return LimitExceeded("message_bytes_max", text)

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


class _Run:
    """One call while its handler runs, counted among ``running``.

    The library cancels the task of a call whose client goes away.
    """

    def __init__(self, name: str, running: set[asyncio.Task[Any]]) -> None:
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.name = name
        self._running = running

    def __enter__(self) -> None:
        self._running.add(self.task)

    def __exit__(self, *_: object) -> None:
        self._running.discard(self.task)

    @contextlib.asynccontextmanager
    async def deadline(self, headers: dict[bytes, bytes]) -> AsyncGenerator[None, None]:
        """End the handler at the client's deadline, with DEADLINE_EXCEEDED."""
        if (value := headers.get(b"grpc-timeout")) is None or (timeout_s := timeout_s_of(value)) is None:
            yield
            return
        timer = asyncio.timeout(timeout_s)
        try:
            async with timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, f"{self.name} took {timeout_s:g} s") from None


class _ClientLeft(Exception):
    """The answer cannot be sent any more."""


class _Answer:
    """The response of one call, from its headers to its trailers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._opened = False

    async def open_now(self) -> None:
        """Send the headers without waiting for the first message."""
        await self._open()
        await self._put({"type": "http.response.body", "body": b"", "more_body": True})

    async def _put(self, event: SendMessage) -> None:
        try:
            await self._send(event)
        except OSError as error:
            raise _ClientLeft from error

    async def _open(self) -> None:
        if not self._opened:
            self._opened = True
            await self._put(_OPENING_EVENT)

    async def write(self, messages: list[bytes]) -> None:
        """Send messages, in one piece."""
        await self._open()
        await self._put({"type": "http.response.body", "body": framed(messages), "more_body": True})

    async def end(self, error: RpcError | None) -> None:
        """Send the status: in the headers, if these were not sent yet, else in the trailers."""
        status = _OK if error is None else _headers_of(error)
        if not self._opened:
            headers = [*_OPENING, *status]
            await self._put({"type": "http.response.start", "status": 200, "headers": headers})
            await self._put({"type": "http.response.body"})
            return
        await self._put({"type": "http.response.body"})
        await self._put({"type": "http.response.trailers", "headers": status})


def _headers_of(error: RpcError) -> Headers:
    try:
        headers, large = status_headers(error)
    except ValueError as malformed:
        _log.error("rpc_status_malformed", code=error.code.name, error=str(malformed))
        return status_headers(RpcError(StatusCode.INTERNAL, "internal error"))[0]
    if large:
        _log.error("rpc_trailers_left_out", code=error.code.name, trailers=large)
    return headers


def _check_room(bound: str, in_use: int, limit: int) -> None:
    if in_use >= limit:
        raise LimitExceeded(bound, f"{bound} ({limit}) is reached, try again later")


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")


@lru_cache(maxsize=CONNECTIONS_MAX)
def _peer(client: tuple[str, int] | None) -> str:
    host, port = client or ("", 0)
    return f"{'ipv6' if ':' in host else 'ipv4'}:{join_address(host, port)}"


def _is_usual(scope: HTTPScope, headers: dict[bytes, bytes]) -> bool:
    """Return whether a request is what all usual clients send; if not, `_refusal_of_http` looks closer."""
    return (
        headers.get(b"content-type") == b"application/grpc"
        and headers.get(b"te") == b"trailers"
        and scope["http_version"] == "2"
        and scope["method"] == "POST"
    )


def _refusal_of_http(scope: HTTPScope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
    """Return status and text for what is no gRPC call."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if scope["http_version"] != "2":
        return 505, "this port speaks gRPC, which needs HTTP/2\n"
    if kind not in (b"application/grpc", b"application/grpc+proto"):
        return 415, "this port speaks gRPC: the content type must be application/grpc\n"
    if scope["method"] != "POST":
        return 405, "this port speaks gRPC: calls are POST requests\n"
    if b"trailers" not in headers.get(b"te", b""):
        return 400, "this port speaks gRPC: calls have the header te: trailers\n"
    return None


async def _send_text(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def _watch_peers(listener: socket.socket, keepalive_s: float, timeout_s: float) -> None:
    """Have the kernel probe silent peers. Connections inherit it from the socket they were accepted on."""
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(round(keepalive_s), 1)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(round(timeout_s / PROBES), 1)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
        # Bytes that were sent and are not confirmed count from when they were sent.
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round((keepalive_s + timeout_s) * 1000)),
    )
    for level, option, value in options:
        listener.setsockopt(level, option, value)
