"""The calls that run: counted within their bound, with their deadlines, waited for at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

from danube_common.errors import LimitExceeded
from danube_common.rpc.call_head import CallHead
from danube_common.rpc.grpc_framing import timeout_s_of
from danube_common.rpc.port import RpcError, StatusCode

Peer = tuple[str, int] | None
"""The other end of a connection, as the library tells it."""


class HeldBytes:
    """The bytes of the requests that a connection has under way, from their announcement to their answer.

    Args:
        limit: of one connection.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Peer, int] = {}

    def take(self, peer: Peer, size: int) -> None:
        """Count a request, to be given back. Raises LimitExceeded; a request alone is never refused."""
        held = self._held.get(peer, 0)
        if held and held + size > self._limit:
            text = f"this connection's requests have {held} bytes already, at most {self._limit} may wait"
            raise LimitExceeded("connection_bytes_max", text)
        self._held[peer] = held + size

    def give_back(self, peer: Peer, size: int) -> None:
        """Forget a request."""
        self._held[peer] -= size
        if not self._held[peer]:
            del self._held[peer]


class Running:
    """The calls of one kind whose handlers run.

    Args:
        name: of the bound, told to a client that is over it.
        limit: how many there may be at one time.
        held: counts the bytes of their requests.
    """

    def __init__(self, name: str, limit: int, held: HeldBytes) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._name = name
        self._limit = limit
        self._held = held

    def enter(self, peer: Peer) -> RunningCall:
        """Return a context in which the current task is counted. Raises LimitExceeded."""
        if len(self.tasks) >= self._limit:
            raise LimitExceeded(self._name, f"{self._name} ({self._limit}) is reached, try again later")
        return RunningCall(self.tasks, self._held, peer)

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in self.tasks:
            task.cancel()


class RunningCall:
    """One call while its handler runs. The library cancels its task when the client goes away."""

    __slots__ = ("_held", "_peer", "_running", "_size", "_task", "status")

    def __init__(self, running: set[asyncio.Task[Any]], held: HeldBytes, peer: Peer) -> None:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running = running
        self._held = held
        self._peer = peer
        self._size = 0
        self.status: RpcError | None = None
        """Set if the call was ended with it."""

    def end(self, status: RpcError) -> None:
        """End the call with a status, as if its handler had raised it."""
        self.status = status
        self._task.cancel()

    def __enter__(self) -> None:
        self._running.add(self._task)

    def __exit__(self, *_: object) -> None:
        self._running.discard(self._task)
        if self._size:
            self._held.give_back(self._peer, self._size)

    def hold(self, size: int) -> None:
        """Count the bytes of the request until the end of the call. Raises LimitExceeded."""
        self._held.take(self._peer, size)
        self._size += size

    def uncancel(self) -> bool:
        """Let the task go on after a cancellation; return whether that came from outside the handler."""
        from_outside = bool(self._task.cancelling())
        while self._task.cancelling():
            self._task.uncancel()
        return from_outside


@contextlib.asynccontextmanager
async def client_deadline(method: str, head: CallHead) -> AsyncGenerator[None, None]:
    """End the body at the client's deadline, if it has one, with DEADLINE_EXCEEDED."""
    if (value := head.headers.get(b"grpc-timeout")) is None or (timeout_s := timeout_s_of(value)) is None:
        yield
        return
    timer = asyncio.timeout(timeout_s)
    try:
        async with timer:
            yield
    except TimeoutError:
        if not timer.expired():
            raise
        raise RpcError(StatusCode.DEADLINE_EXCEEDED, f"{method} took {timeout_s:g} s") from None
