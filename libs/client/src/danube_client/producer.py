"""A producer on a topic or on all partitions of one."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from enum import IntEnum
from itertools import count
from types import TracebackType
from typing import Self

from danube_client.errors import Closed
from danube_client.topic_producer import TopicProducer

IN_FLIGHT_MAX = 64


class AccessMode(IntEnum):
    """Numbered as on the wire."""

    SHARED = 0
    EXCLUSIVE = 1


class Producer:
    """Sends messages; made by ``Client.producer``, opened by ``async with`` or ``await``."""

    def __init__(self, topic_producers: Sequence[TopicProducer], room: asyncio.Semaphore) -> None:
        self._topic_producers = topic_producers
        self._room = room
        self._turn = count()
        self._closed = False

    @property
    def topics(self) -> list[str]:
        """The topic itself, or its partitions in order."""
        return [producer.topic for producer in self._topic_producers]

    async def send(self, payload: bytes | str, attributes: Mapping[str, str] | None = None) -> int:
        """Sends a message and waits until the platform has it.

        Calls that run at the same time are sent in the order in which they were made. With partitions
        the messages go round them, beginning with the first.

        Returns:
            The message's sequence id: 0 for a producer's first message (to a partition).

        Raises:
            CallError: the platform refused it, or did not answer within the retries.
            Closed: the producer was closed.
        """
        return await (await self.post(payload, attributes))

    async def post(
        self, payload: bytes | str, attributes: Mapping[str, str] | None = None
    ) -> asyncio.Future[int]:
        """Hands over a message, waiting only for room among those in flight.

        Returns:
            What ``send`` would return or raise; whether it is looked at is the caller's affair.

        Raises:
            Closed: the producer was closed.
        """
        await self._room.acquire()
        try:
            if self._closed:
                raise Closed("the producer is closed")
            producer = self._topic_producers[next(self._turn) % len(self._topic_producers)]
            data = payload.encode() if isinstance(payload, str) else payload
            outcome = producer.post(data, attributes or {})
        except BaseException:
            self._room.release()
            raise
        outcome.add_done_callback(_look_at)
        return outcome

    async def flush(self) -> None:
        """Returns once every message handed over so far is settled, one way or the other."""
        await asyncio.gather(*(producer.flush() for producer in self._topic_producers))

    async def close(self) -> None:
        """Takes no more messages, settles those handed over and stops."""
        self._closed = True
        await self.flush()
        await self.abort()

    async def abort(self) -> None:
        """Stops at once; what is not settled fails with Closed, and may have been sent."""
        self._closed = True
        await asyncio.gather(*(producer.close() for producer in self._topic_producers))

    async def open(self) -> Self:
        """Creates the producer with the platform, and the topic or partitions that are new.

        Raises:
            CallError: the platform refuses, or did not become ready within the retries.
        """
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
