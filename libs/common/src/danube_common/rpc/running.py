"""The calls that run: counted within their bound, with their deadlines, waited for at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Final, cast

from danube_common.errors import LimitExceeded
from danube_common.rpc.call_head import CallHead
from danube_common.rpc.first_step import FirstStep
from danube_common.rpc.grpc_framing import timeout_s_of
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.security.identity import Identity

ARRIVED: Final = -1
REQUEST_WAITS_MAX: Final = 2
"""`Running.end_late` ends a call at the look after so many."""
IDENTITY_SHARE: Final = 0.5
"""Of the bound one identity may run at most so much, unless the configuration says otherwise."""
RESERVED_SHARE: Final = 0.01
"""Beyond the bound a caller may still run so many of it, so that another who fills it keeps nobody out,"""
RESERVED_MAX: Final = 512
"""and all callers together so many calls."""

Peer = tuple[str, int] | None
"""The other end of a connection, as the library tells it."""
Caller = Identity | str
"""Who is counted: an identity, or the host of a connection if nobody is asked for one."""
Refused = Callable[[str], None]
"""Counts a refusal, by the name of the bound."""


def nobody_counts(_bound: str) -> None:
    """Count no refusal."""


class HeldBytes:
    """The bytes of the requests that a connection has under way, from their announcement to their answer.

    Args:
        limit: of one connection.
        refused: counts refusals.
    """

    def __init__(self, limit: int, refused: Refused = nobody_counts) -> None:
        self._limit = limit
        self._refused = refused
        self._held: dict[Peer, int] = {}

    def take(self, peer: Peer, size: int) -> None:
        """Count a request, to be given back. Raises LimitExceeded; a request alone is never refused."""
        held = self._held.get(peer, 0)
        if held and held + size > self._limit:
            text = f"this connection's requests have {held} bytes already, at most {self._limit} may wait"
            self._refused("connection_bytes_max")
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
        limit: how many there may be at one time; a caller that runs few may run some beyond it.
        held: counts the bytes of their requests.
        refused: counts refusals.
        identity_max: how many one identity may run; None: `IDENTITY_SHARE` of the limit.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        held: HeldBytes,
        refused: Refused = nobody_counts,
        identity_max: int | None = None,
    ) -> None:
        self._calls: set[RunningCall] = set()
        self._name = name
        self._limit = limit
        self._reserved = int(limit * RESERVED_SHARE)
        self._identity_max = max(int(limit * IDENTITY_SHARE), 1) if identity_max is None else identity_max
        self._held = held
        self._refused = refused
        self._of: dict[Caller, int] = {}

    def __len__(self) -> int:
        """Return how many run."""
        return len(self._calls)

    def __iter__(self) -> Iterator[RunningCall]:
        """Yield them, in no order."""
        return iter(self._calls)

    @property
    def ends(self) -> set[asyncio.Future[Any]]:
        """For each of them what is done when it has ended."""
        return {call.ended() for call in self._calls}

    def admit(self, caller: Caller) -> None:
        """Return if one more call of this caller is within the bounds. Raises LimitExceeded."""
        if isinstance(caller, Identity) and (own := self._of.get(caller, 0)) >= self._identity_max:
            self._refused("calls_per_identity_max")
            text = f"{caller} runs {own} calls of {self._name} already, and may run no more at one time"
            raise LimitExceeded("calls_per_identity_max", text)
        if len(self._calls) >= self._limit and not self._may_go_beyond(self._of.get(caller, 0)):
            self._refused(self._name)
            raise LimitExceeded(self._name, f"{self._name} ({self._limit}) is reached, try again later")

    def count(self, peer: Peer, caller: Caller, loop: asyncio.AbstractEventLoop | None) -> RunningCall:
        """Return a context in which the current task is counted. It was admitted in this step of the loop."""
        return RunningCall(self._calls, self._of, self._held, peer, caller, loop)

    def _may_go_beyond(self, own: int) -> bool:
        return own < self._reserved and len(self._calls) < self._limit + min(RESERVED_MAX, self._limit)

    def end_late(self) -> None:
        """End the calls whose request has not arrived in full since the call before the last to this."""
        for call in self._calls:
            if call.waited == ARRIVED:
                continue
            call.waited += 1
            if call.waited > REQUEST_WAITS_MAX:
                self._refused("request_s_max")
                call.end(RpcError(StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time"))

    def cancel(self) -> None:
        """Cancel all of them."""
        for call in self._calls:
            call.cancel()


class RunningCall:
    """One call while its handler runs. The library cancels its task when the client goes away."""

    __slots__ = ("_caller", "_held", "_of", "_running", "_size", "_task", "peer", "status", "waited")

    def __init__(
        self,
        running: set[RunningCall],
        of: dict[Caller, int],
        held: HeldBytes,
        peer: Peer,
        caller: Caller,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        # Without the loop it is looked for, with a system call.
        self._task = cast("asyncio.Task[Any] | FirstStep", asyncio.current_task(loop))
        self._running = running
        self._of = of
        self._held = held
        self._size = 0
        self._caller = caller
        self.peer = peer
        self.status: RpcError | None = None
        """Set if the call was ended with it."""
        self.waited = 0
        """How many looks of `Running.end_late` it was waiting for its request, or `ARRIVED`."""

    def ended(self) -> asyncio.Future[Any]:
        """Return what is done when it has ended."""
        return self._task.ended() if isinstance(self._task, FirstStep) else self._task

    def cancel(self) -> None:
        """Cancel it where it waits."""
        self._task.cancel()

    def end(self, status: RpcError) -> None:
        """End the call with a status, as if its handler had raised it."""
        self.status = status
        self._task.cancel()

    def __enter__(self) -> None:
        self._running.add(self)
        self._of[self._caller] = self._of.get(self._caller, 0) + 1

    def __exit__(self, *_: object) -> None:
        self._running.discard(self)
        if (left := self._of[self._caller] - 1) > 0:
            self._of[self._caller] = left
        else:
            del self._of[self._caller]
        if self._size:
            self._held.give_back(self.peer, self._size)

    def hold(self, size: int) -> None:
        """Count the bytes of the request until the end of the call. Raises LimitExceeded."""
        self._held.take(self.peer, size)
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
