"""The bus inside one process: for tests, with the behaviour of `nats`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from danube_common.bus.port import MessageHandler, RequestHandler
from danube_common.errors import BusUnavailable, NoResponders, RequestTimeout

PENDING_MESSAGES_MAX = 64 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Message:
    payload: bytes
    answer: asyncio.Future[bytes] | None
    traces: str = ""


_Deliver = Callable[[_Message], Coroutine[None, None, None]]


class _MemoryInterest:
    """One subscription or server: a bounded queue and the task that empties it in order."""

    def __init__(self, hub: MemoryHub, subject: str, deliver: _Deliver, *, serves: bool) -> None:
        self.subject = subject
        self.serves = serves
        self._hub = hub
        self._deliver = deliver
        self._pending: asyncio.Queue[_Message] = asyncio.Queue(PENDING_MESSAGES_MAX)
        self._task = asyncio.create_task(self._run())

    def offer(self, message: _Message) -> None:
        try:
            self._pending.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("bus_messages_dropped", subject=self.subject)

    def drop(self) -> None:
        while not self._pending.empty():
            self._pending.get_nowait()

    async def close(self) -> None:
        self._hub.remove(self)
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            message = await self._pending.get()
            try:
                await self._deliver(message)
            except Exception:
                log.exception("bus_handler_failed", subject=self.subject)


class MemoryHub:
    """What the buses of one process share in place of a server."""

    def __init__(self) -> None:
        self.connected = True
        self._interests: dict[_MemoryInterest, None] = {}
        self._buses: dict[MemoryBus, None] = {}
        self._turn = 0

    def disconnect(self) -> None:
        """Disconnect every bus: messages on their way are lost, requests in flight fail."""
        self.connected = False
        for interest in self._interests:
            interest.drop()
        for bus in self._buses:
            bus.lost()

    def reconnect(self) -> None:
        """Reconnect every bus; each calls back."""
        self.connected = True
        for bus in list(self._buses):
            bus.returned()

    def join(self, bus: MemoryBus) -> None:
        """Add a bus."""
        self._buses[bus] = None

    def leave(self, bus: MemoryBus) -> None:
        """Remove a bus."""
        self._buses.pop(bus, None)

    def add(self, interest: _MemoryInterest) -> None:
        """Add a subscriber or server."""
        self._interests[interest] = None

    def remove(self, interest: _MemoryInterest) -> None:
        """Remove a subscriber or server."""
        self._interests.pop(interest, None)

    def route(self, subject: str, message: _Message) -> bool:
        """Hand a message to every subscriber and to one server; return False if there is neither."""
        matching = [interest for interest in self._interests if _matches(interest.subject, subject)]
        servers = [interest for interest in matching if interest.serves]
        for interest in matching:
            if not interest.serves:
                interest.offer(message)
        if servers:
            self._turn += 1
            servers[self._turn % len(servers)].offer(message)
        return bool(matching)


class MemoryBus:
    """A `Bus` over a `MemoryHub`; several may share one hub."""

    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub
        self._closed = False
        self._reconnect_callbacks: list[Callable[[], None]] = []
        self._interests: list[_MemoryInterest] = []
        self._answers: set[asyncio.Future[bytes]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        hub.join(self)

    @property
    def connected(self) -> bool:
        return self._hub.connected and not self._closed

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._reconnect_callbacks.append(callback)

    async def publish(self, subject: str, payload: bytes, traces: str = "") -> None:
        """See the port."""
        self._require_connection()
        self._hub.route(subject, _Message(payload, None, traces))

    def publish_at_once(self, subject: str, payload: bytes, traces: str = "") -> bool:
        """See the port."""
        if not self.connected:
            return False
        self._hub.route(subject, _Message(payload, None, traces))
        return True

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        self._require_connection()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self._hub.route(subject, _Message(payload, answer)):
            raise NoResponders(f"nobody listens on {subject}")
        self._answers.add(answer)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise RequestTimeout(f"no answer on {subject} within {timeout_s} s") from error
        finally:
            self._answers.discard(answer)

    async def subscribe(
        self, subject: str, handler: MessageHandler, on_traces: Callable[[str], None] | None = None
    ) -> _MemoryInterest:
        """See the port."""

        async def deliver(message: _Message) -> None:
            if message.traces and on_traces is not None:
                on_traces(message.traces)
            handler(message.payload)

        return self._listen(subject, deliver, serves=False)

    async def serve(
        self, subject: str, handler: RequestHandler, *, concurrent_max: int = 1024
    ) -> _MemoryInterest:
        """See the port."""
        slots = asyncio.Semaphore(concurrent_max)

        async def accept(message: _Message) -> None:
            await slots.acquire()
            task = asyncio.create_task(self._answer(message, handler))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            task.add_done_callback(lambda _: slots.release())

        return self._listen(subject, accept, serves=True)

    async def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        self._closed = True
        self._hub.leave(self)
        for interest in self._interests:
            await interest.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        self.lost()

    def lost(self) -> None:
        """The hub disconnected."""
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(BusUnavailable("the connection was lost while waiting for an answer"))

    def returned(self) -> None:
        """The hub is connected again."""
        for callback in self._reconnect_callbacks:
            try:
                callback()
            except Exception:
                log.exception("bus_reconnect_callback_failed")

    def _require_connection(self) -> None:
        if not self.connected:
            raise BusUnavailable("not connected to the hub")

    def _listen(self, subject: str, deliver: _Deliver, *, serves: bool) -> _MemoryInterest:
        self._require_connection()
        interest = _MemoryInterest(self._hub, subject, deliver, serves=serves)
        self._hub.add(interest)
        self._interests.append(interest)
        return interest

    async def _answer(self, message: _Message, handler: RequestHandler) -> None:
        try:
            answer = await handler(message.payload)
        except Exception:
            log.exception("bus_handler_failed")
            return
        if message.answer is not None and not message.answer.done() and self.connected:
            message.answer.set_result(answer)


def _matches(pattern: str, subject: str) -> bool:
    if pattern == subject:
        return True
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, part in enumerate(wanted):
        if part == ">":
            return len(tokens) > position
        if position >= len(tokens) or part not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)
