"""Reader of a topic without a subscription: to look at messages, or to replay them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from danube_client.connection import Connections
from danube_client.errors import Closed, InvalidRequest, TopicNotFound
from danube_client.events import OnEvent
from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.retry import Retry
from danube_client.stream.presence import Presence
from danube_client.stream.reading import Reading
from danube_proto import danube_stream_pb2 as api


@dataclass(frozen=True, slots=True)
class ReaderOpening:
    """Finds the readings of a topic.

    Attributes:
        describe: asks the platform for a topic.
        request: of each reading; ``topic`` is the one that is asked for, which may have partitions.
    """

    connections: Connections
    describe: Callable[[api.DescribeTopicRequest], Awaitable[api.DescribeTopicResponse]]
    request: api.ReadRequest
    retry: Retry
    on_event: OnEvent
    codec: Codec | None

    async def open(self) -> list[Reading]:
        """Find the topic or its partitions.

        Raises:
            TopicNotFound: there is none.
            InvalidRequest: a position belongs to one topic, and there are several partitions.
            Unsupported: the platform has no native streaming.
        """
        wanted = self.request
        answer = await self.describe(api.DescribeTopicRequest(topic=wanted.topic))
        if not answer.exists:
            raise TopicNotFound("NOT_FOUND", f"there is no topic {wanted.topic}")
        positioned = wanted.HasField("end_position") or wanted.start.kind == api.Start.POSITION
        if positioned and len(answer.topics) > 1:
            raise InvalidRequest(
                "INVALID_ARGUMENT",
                f"a position belongs to one topic, and {wanted.topic} has {len(answer.topics)} partitions",
            )
        return [self._reading(part.topic) for part in answer.topics]

    def _reading(self, topic: str) -> Reading:
        request = api.ReadRequest()
        request.CopyFrom(self.request)
        request.topic = topic
        presence = Presence("a reader", topic, self.on_event, asyncio.get_running_loop().time)
        return Reading(self.connections, request, self.retry, presence, self.codec)


class Reader:
    """Reads messages; no cursor moves, and retention is as without it.

    ``Client.reader`` creates it, ``async with`` or ``await`` opens it, ``async for`` reads. Partitions are
    read one after the other, or all at once if the reader follows the topic.
    """

    def __init__(self, opening: ReaderOpening) -> None:
        self._opening = opening
        self._readings: deque[Reading] = deque()
        self._all: Sequence[Reading] = ()
        self._merged: asyncio.Queue[Message | Exception] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = self._closed = False

    @property
    def missing(self) -> int:
        """How many messages were retained no more, or could not be read; a lower bound."""
        return sum(reading.missing for reading in self._all)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._closed:
            raise StopAsyncIteration
        if not self._opened:
            raise Closed("the reader is not open: use `async with`")
        if self._merged is not None:
            found = await self._merged.get()
            if isinstance(found, Exception):
                raise found
            return found
        while self._readings:
            reading = self._readings[0]
            try:
                if not reading.ready:
                    await reading.refill()
                return reading.ready.popleft()
            except StopAsyncIteration:
                self._readings.popleft()
        raise StopAsyncIteration

    async def open(self) -> Self:
        """Find the topic.

        Raises:
            TopicNotFound: there is none.
            Unsupported: the platform has no native streaming.
        """
        self._all = await self._opening.open()
        self._opened = True
        if self._opening.request.follow and len(self._all) > 1:
            self._merged = asyncio.Queue(1000)
            self._tasks = [asyncio.create_task(self._follow(reading, self._merged)) for reading in self._all]
        else:
            self._readings.extend(self._all)
        return self

    async def _follow(self, reading: Reading, merged: asyncio.Queue[Message | Exception]) -> None:
        try:
            while True:
                await reading.refill()
                while reading.ready:
                    await merged.put(reading.ready.popleft())
        except StopAsyncIteration:
            return
        except Exception as error:  # noqa: BLE001 - the iteration raises it
            await merged.put(error)

    async def close(self) -> None:
        """Stop."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reading in self._all:
            reading.close()

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
