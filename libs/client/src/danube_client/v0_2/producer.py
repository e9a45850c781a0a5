"""Producer on a topic, or on all partitions of a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from itertools import count
from typing import Self

from danube_client.errors import Closed, Unsupported
from danube_client.v0_2.topic_producer import TopicProducer

IN_FLIGHT_MAX = 64


class Producer:
    """Sends messages, one call each; ``await`` opens it. See `danube_client.producer.Producer`."""

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

    async def post(
        self, payload: bytes, attributes: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> asyncio.Future[int]:
        """Send a message without waiting for the answer; waits for room among the messages in flight.

        Returns:
            A future with the message's sequence id; the first message to a topic or partition has 0.

        Raises:
            Unsupported: a key was given.
            TopicDeleted: the topic was deleted.
            Closed: the producer was closed or is not open.
        """
        if key is not None:
            raise Unsupported("the platform has no native streaming, which is needed for keys")
        await self._room.acquire()
        try:
            if self._closed or not self._topic_producers:
                raise Closed("the producer is closed" if self._closed else "the producer is not open")
            producer = self._topic_producers[next(self._turn) % len(self._topic_producers)]
            outcome = producer.post(payload, attributes or {})
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


def _look_at(outcome: asyncio.Future[int]) -> None:
    if not outcome.cancelled():
        outcome.exception()
