"""The calls that run: counted within their bound, with their deadlines, waited for at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

from danube_common.errors import LimitExceeded
from danube_common.rpc.grpc_framing import timeout_s_of
from danube_common.rpc.port import RpcError, StatusCode


class Running:
    """The calls of one kind whose handlers run.

    Args:
        name: of the bound, told to a client that is over it.
        limit: how many there may be at one time.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._name = name
        self._limit = limit

    def enter(self) -> RunningCall:
        """Return a context in which the current task is counted. Raises LimitExceeded."""
        if len(self.tasks) >= self._limit:
            raise LimitExceeded(self._name, f"{self._name} ({self._limit}) is reached, try again later")
        return RunningCall(self.tasks)

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in self.tasks:
            task.cancel()


class RunningCall:
    """One call while its handler runs. The library cancels its task when the client goes away."""

    def __init__(self, running: set[asyncio.Task[Any]]) -> None:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running = running

    def __enter__(self) -> None:
        self._running.add(self._task)

    def __exit__(self, *_: object) -> None:
        self._running.discard(self._task)

    def uncancel(self) -> bool:
        """Let the task go on after a cancellation; return whether that came from outside the handler."""
        from_outside = bool(self._task.cancelling())
        while self._task.cancelling():
            self._task.uncancel()
        return from_outside


@contextlib.asynccontextmanager
async def client_deadline(method: str, headers: dict[bytes, bytes]) -> AsyncGenerator[None, None]:
    """End the body at the client's deadline, if it has one, with DEADLINE_EXCEEDED."""
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
        raise RpcError(StatusCode.DEADLINE_EXCEEDED, f"{method} took {timeout_s:g} s") from None
