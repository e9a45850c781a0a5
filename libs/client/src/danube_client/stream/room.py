"""Room for the messages of a producer that are not answered, and the time that they have."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from danube_client.errors import ClientError, SendTimeout


def fail(outcome: asyncio.Future[Any], error: ClientError) -> None:
    """Fail a future that nobody needs to look at."""
    if not outcome.done():
        outcome.set_exception(error)
        outcome.exception()


class Room:
    """Bounds messages and their bytes; who finds none waits in line. A single message always finds some.

    Attributes:
        messages: how many have room now.
    """

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages = 0
        self._bytes = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._emptied = asyncio.Event()
        self._ended: ClientError | None = None

    def take(self, size: int) -> bool:
        """Take room for a message; return False if there is none, or others wait for some."""
        if self._waiting or not self._has(size):
            return False
        self.messages += 1
        self._bytes += size
        return True

    async def wait(self, size: int, timeout_s: float | None) -> None:
        """Take room for a message once there is some.

        Raises:
            SendTimeout: there was none in time.
            ClientError: the producer has ended.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, size))
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.free(1, size)
            else:
                self._waiting = deque(other for other in self._waiting if other[0] is not waiter)
                self.free(0, 0)  # who waits behind it may need less
            if isinstance(error, TimeoutError):
                raise SendTimeout(
                    f"no room for the message within {timeout_s} s: the platform does not take what is"
                    " buffered already"
                ) from None
            raise
        if self._ended is not None:  # after it got room, and before it could go on
            raise self._ended

    def free(self, messages: int, size: int) -> None:
        """Give room back; those that wait take it in their order."""
        if self._ended is not None:
            return
        self.messages -= messages
        self._bytes -= size
        while self._waiting and (self._waiting[0][0].done() or self._has(self._waiting[0][1])):
            waiter, wanted = self._waiting.popleft()
            if not waiter.done():
                self.messages += 1
                self._bytes += wanted
                waiter.set_result(None)
        if not self.messages:
            self._emptied.set()

    async def until_empty(self) -> None:
        """Wait until all room was given back."""
        while self.messages:
            self._emptied.clear()
            await self._emptied.wait()

    def end(self, error: ClientError) -> None:
        """Give all room back, and fail who waits."""
        self._ended = error
        self.messages = self._bytes = 0
        self._emptied.set()
        while self._waiting:
            fail(self._waiting.popleft()[0], error)

    def _has(self, size: int) -> bool:
        return not self.messages or (
            self.messages < self._messages_max and self._bytes + size <= self._bytes_max
        )


class Deadlines:
    """Fails messages that are not stored in time, with one timer for all; all have the same time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[int]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, outcome: asyncio.Future[int]) -> None:
        """Fail a message with SendTimeout unless it is stored in time."""
        self._waiting.append((self._loop.time() + self._timeout_s, outcome))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._pass)

    def end(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        now_s = self._loop.time()
        self._timer = None
        while self._waiting:
            deadline_s, outcome = self._waiting[0]
            if not outcome.done():
                if deadline_s > now_s:
                    self._timer = self._loop.call_at(deadline_s, self._pass)
                    return
                fail(
                    outcome,
                    SendTimeout(
                        f"not stored within {self._timeout_s} s; it may be stored yet, since it is sent until"
                        " the platform answers"
                    ),
                )
            self._waiting.popleft()
