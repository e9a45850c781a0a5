"""Producer on a topic, or on all partitions of a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from enum import IntEnum
from itertools import count
from types import TracebackType
from typing import Self

from danube_client.errors import Closed
from danube_client.topic_producer import TopicProducer

IN_FLIGHT_MAX = 64


class AccessMode(IntEnum):
    """Whether a topic accepts other producers beside this one. The numbers are those of the wire."""

    SHARED = 0
    EXCLUSIVE = 1


class Producer:
    """Sends messages. ``Client.producer`` creates it, ``async with`` or ``await`` opens it."""

    def __init__(
        self,
        name: str,
        resolve: Callable[[], Awaitable[Sequence[TopicProducer]]],
        room: asyncio.Semaphore,
    ) -> None:
        self.name = name
        """The producer's name; those of partitions have the partition's number behind it."""
        self._resolve = resolve
        self._topic_producers: Sequence[TopicProducer] = ()
        self._room = room
        self._turn = count()
        self._closed = False

    @property
    def topics(self) -> list[str]:
        """The topic itself, or its partitions in order; none before the producer is open."""
        return [producer.topic for producer in self._topic_producers]

    async def send(self, payload: bytes | str, attributes: Mapping[str, str] | None = None) -> int:
        """Send a message and wait until the platform has accepted it.

        Concurrent calls are sent in the order in which they were made. With partitions, messages go to the
        partitions in turn, starting with the first.

        Returns:
            The message's sequence id; the first message to a topic or partition has 0.

        Raises:
            TopicDeleted: the topic was deleted.
            CallError: the platform refused the message, or did not answer within the retries.
            Closed: the producer was closed.
        """
        return await (await self.post(payload, attributes))

    async def post(
        self, payload: bytes | str, attributes: Mapping[str, str] | None = None
    ) -> asyncio.Future[int]:
        """Send a message without waiting for the answer; waits for room among the messages in flight.

        Returns:
            A future with what ``send`` returns or raises. It need not be awaited.

        Raises:
            TopicDeleted: the topic was deleted.
            Closed: the producer was closed or is not open.
        """
        await self._room.acquire()
        try:
            if self._closed or not self._topic_producers:
                raise Closed("the producer is closed" if self._closed else "the producer is not open")
            producer = self._topic_producers[next(self._turn) % len(self._topic_producers)]
            data = payload.encode() if isinstance(payload, str) else payload
            outcome = producer.post(data, attributes or {})
        except BaseException:
            self._room.release()
            raise
        outcome.add_done_callback(_look_at)
        return outcome

    async def flush(self) -> None:
        """Wait until every message sent so far has succeeded or failed."""
        await asyncio.gather(*(producer.flush() for producer in self._topic_producers))

    async def close(self) -> None:
        """Accept no more messages, wait for those in flight, and stop."""
        self._closed = True
        await self.flush()
        await self.abort()

    async def abort(self) -> None:
        """Stop at once. Messages in flight fail with Closed; the platform may have stored them."""
        self._closed = True
        await asyncio.gather(*(producer.close() for producer in self._topic_producers))

    async def open(self) -> Self:
        """Create the producer on the platform, and the topic or partitions that do not exist.

        Raises:
            InvalidRequest: the topic has another number of partitions than was asked for.
            CallError: the platform refused, or was not ready within the retries.
        """
        self._topic_producers = await self._resolve()
        try:
            await asyncio.gather(*(producer.open() for producer in self._topic_producers))
        except BaseException:
            await self.abort()
            raise
        return self

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()


def _look_at(outcome: asyncio.Future[int]) -> None:
    if not outcome.cancelled():
        outcome.exception()
