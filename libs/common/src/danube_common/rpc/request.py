"""The request of one call: what its headers say, and the messages of its body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Self, cast

from h2corn import HTTPScope, Receive, ReceiveMessage

from danube_common.errors import LimitExceeded
from danube_common.rpc.call_head import CallHead
from danube_common.rpc.grpc_framing import MessageReader, TooLarge, announced_bytes, whole_message
from danube_common.rpc.port import Call, RpcError, StatusCode
from danube_common.runtime.address import join_address

SMALL_BYTES_MAX: Final = 4096
"""Requests up to this size are bounded by the number of calls, and not counted by connection."""
ARRIVED_TYPE: Final = "_ReadyAwaitable"
"""What the library calls an event that has arrived. One by another name is awaited, which takes longer."""
PEERS_MAX: Final = 20_000
"""Names of peers that are remembered: one a connection."""


class MessageLimit:
    """The bound on a message of a request.

    Args:
        bytes_max: compressed and not.
        hint: where the bound comes from, told to a client whose message is larger.
    """

    def __init__(self, bytes_max: int, hint: str) -> None:
        self.bytes_max = bytes_max
        self.small_bytes_max = min(bytes_max, SMALL_BYTES_MAX)
        self._hint = hint

    def refusal(self, size: int) -> LimitExceeded:
        """Return the error for a message of ``size`` bytes, 0 if only its decompression was too large."""
        have = f"{size} bytes" if size else f"more than {self.bytes_max} bytes once decompressed"
        text = f"the request has {have}, and at most {self.bytes_max} are taken"
        return LimitExceeded("message_bytes_max", f"{text}: {self._hint}" if self._hint else text)


class Request:
    """An asynchronous iterator over the messages of a call; see `BidiHandler` for what it promises."""

    def __init__(self, head: CallHead, receive: Receive, limit: MessageLimit) -> None:
        self._receive = receive
        self._limit = limit
        self._reader = MessageReader(limit.bytes_max, head.headers.get(b"grpc-encoding", b"identity"))
        self._more = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if (message := self._next()) is not None:
                return message
            if not self._more:
                self._reader.end()
                raise StopAsyncIteration
            if not self._take(await self._receive()):
                raise RpcError(StatusCode.CANCELLED, "the client has left")

    async def single(self, *received: ReceiveMessage) -> bytes | None:
        """Return the one message of a call that takes no more, some of which came; see `single_message`."""
        *earlier, event = received
        message = None
        for piece in earlier:
            self._take(piece)
        while True:
            if not self._take(event):
                return None
            if message is None:
                message = self._next()
            if message is not None and self._reader.held:
                raise RpcError(StatusCode.INTERNAL, "the call takes one message, and more bytes came")
            if not self._more:
                break
            event = await self._receive()
        if message is None:
            self._reader.end()
            raise RpcError(StatusCode.INTERNAL, "the call ended before its message began")
        return message

    def _next(self) -> bytes | None:
        try:
            return self._reader.next()
        except TooLarge as error:
            raise self._limit.refusal(error.size) from None

    def _take(self, event: ReceiveMessage) -> bool:
        """Keep a piece of the body; return whether it is one."""
        if event["type"] != "http.request":
            self._more = False
            return False
        self._reader.add(event.get("body", b""))
        self._more = event.get("more_body", False)
        return True


def small_message(event: ReceiveMessage, head: CallHead, limit: MessageLimit) -> bytes | None:
    """Return the message if the event has it whole, and it is small and not compressed: the usual request."""
    if event["type"] != "http.request" or head.is_encoded:
        return None
    return whole_message(event.get("body", b""), limit.small_bytes_max)


def arrived_message(receive: Receive, head: CallHead, limit: MessageLimit) -> bytes | Receive:
    """Return the message of a usual request that has arrived in full; else what receives it from the start.

    Waits for nothing.
    """
    if (event := _arrived(waiting := receive())) is None:
        return _Again(receive, waiting)
    if (message := small_message(event, head, limit)) is None:
        return _Again(receive, event)
    if event["type"] == "http.request" and event.get("more_body"):
        if (last := _arrived(waiting := receive())) is None:
            return _Again(receive, event, waiting)
        if not is_end(last):
            return _Again(receive, event, last)
    return message


def _arrived(waiting: Awaitable[ReceiveMessage]) -> ReceiveMessage | None:
    """Return the event if it has arrived already; None if it is to be awaited."""
    if type(waiting).__name__ != ARRIVED_TYPE:
        return None
    try:
        cast("Any", waiting).send(None)
    except StopIteration as arrived:
        return cast("ReceiveMessage", arrived.value)
    raise AssertionError("an event that has arrived was to be waited for")


class _Again:
    """Receives what was taken before, the last of which may not have been awaited, and then what follows."""

    def __init__(self, receive: Receive, *earlier: ReceiveMessage | Awaitable[ReceiveMessage]) -> None:
        self._receive = receive
        self._earlier = list(earlier)

    async def __call__(self) -> ReceiveMessage:
        if not self._earlier:
            return await self._receive()
        event = self._earlier.pop(0)
        return event if isinstance(event, dict) else await event


def is_end(event: ReceiveMessage) -> bool:
    """Return whether the event says nothing but that the request has ended."""
    return event["type"] == "http.request" and not event.get("body") and not event.get("more_body")


async def single_message(
    head: CallHead,
    receive: Receive,
    limit: MessageLimit,
    hold: Callable[[int], None],
    received: Sequence[ReceiveMessage] = (),
) -> bytes | None:
    """Receive the one message of a unary or server-streaming call, of which some was received already.

    ``hold`` counts a message's bytes as soon as they are announced, before they are received.

    Returns:
        None if the client left before the end of its request.

    Raises:
        RpcError: it is malformed.
        LimitExceeded: it is too large, or too many bytes are held.
    """
    first, *further = received or (await receive(),)
    if first["type"] != "http.request":
        return None
    if (size := announced_bytes(first.get("body", b""), limit.bytes_max)) > SMALL_BYTES_MAX:
        hold(size)
    return await Request(head, receive, limit).single(first, *further)


def call_of(scope: HTTPScope, head: CallHead, request: bytes) -> Call:
    """Return the call as its handler sees it. Raises RpcError for malformed metadata."""
    call = Call(scope["path"], request, head.metadata, peer_of(scope.get("client")))
    if (tls := scope["extensions"].get("tls")) is not None:
        call.identity = tls["client_cert_name"] or ""
    return call


@lru_cache(maxsize=PEERS_MAX)
def peer_of(client: tuple[str, int] | None) -> str:
    """Return the other end of a connection as a handler sees it, ``ipv4:host:port``."""
    host, port = client or ("", 0)
    return f"{'ipv6' if ':' in host else 'ipv4'}:{join_address(host, port)}"
