"""Producer on a topic, or on all partitions of a topic."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

from danube_client.connection import Connections
from danube_client.errors import CallError, Closed, InvalidRequest, Unsupported
from danube_client.events import OnEvent
from danube_client.payload import Codec, encode
from danube_client.schema import Schema
from danube_client.strategy import Strategy
from danube_client.stream.presence import Presence
from danube_client.stream.publisher import Publisher, PublisherOptions
from danube_client.tracing import with_trace
from danube_client.v0_2 import producer as v0_2
from danube_client.v0_2.opening import FindTopics, open_producer
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

IN_FLIGHT_MAX = v0_2.IN_FLIGHT_MAX
"""Unanswered messages of a producer on a platform without native streaming."""


class AccessMode(IntEnum):
    """Whether a topic accepts other producers beside this one. The numbers are those of the wire."""

    SHARED = 0
    EXCLUSIVE = 1


@dataclass(frozen=True, slots=True)
class ProducerOpening:
    """Opens what carries a producer's messages: native streaming, or calls where the platform has only these.

    Attributes:
        existing: returns a topic itself, or its partitions, or nothing.
        request: by native streaming.
        strategy: None accepts that of an existing topic.
        schema: the same.
        idempotent: None is yes where the topic is reliable, as the request says at first.
    """

    connections: Connections
    existing: FindTopics
    request: api.OpenProducer
    strategy: Strategy | None
    schema: Schema | None
    partitions: int | None
    idempotent: bool | None
    in_flight_max: int | None
    streaming: bool
    options: PublisherOptions
    health_interval_s: float
    on_event: OnEvent

    async def open(self) -> Publisher | v0_2.Producer:
        """Open it.

        Raises:
            Unsupported: the platform has no native streaming, and the producer needs it.
            CallError: the platform refused.
        """
        if self.streaming:
            try:
                return await self._by_streaming()
            except CallError as error:
                if not error.unimplemented:
                    raise
        for wanted, what in (
            (self.idempotent, "idempotent producers"),
            (self.schema is not None and self.schema.subject, "subjects of the schema registry"),
        ):
            if wanted:
                raise Unsupported.by(self.connections.home.address, what)
        return await self._by_calls()

    async def _by_streaming(self) -> Publisher:
        request = self.request
        clock = asyncio.get_running_loop().time
        presence = Presence(f"producer {request.producer_name}", request.topic, self.on_event, clock)
        publisher = Publisher(self.connections, request, self.options, presence)
        try:
            await publisher.open()
        except InvalidRequest as error:
            if self.idempotent is not None or not request.idempotent or "idempotent" not in error.message:
                raise
            request.idempotent = False  # the topic is there, and is not reliable
            publisher = Publisher(self.connections, request, self.options, presence)
            await publisher.open()
        return publisher

    async def _by_calls(self) -> v0_2.Producer:
        return await open_producer(
            self.connections,
            self.existing,
            wire.ProducerRequest(
                producer_name=self.request.producer_name,
                topic_name=self.request.topic,
                schema=None if self.schema is None else self.schema.to_wire(),
                producer_access_mode=wire.ProducerAccessMode.Name(self.request.access_mode),
                dispatch_strategy=None if self.strategy is None else self.strategy.to_wire(),
            ),
            self.options.retry,
            self.health_interval_s,
            partitions=self.partitions,
            in_flight_max=self.in_flight_max or IN_FLIGHT_MAX,
            recreate=self.options.recreate,
        )


class Producer:
    """Sends messages. ``Client.producer`` creates it, ``async with`` or ``await`` opens it."""

    def __init__(self, opening: ProducerOpening, codec: Codec | None) -> None:
        self.name = opening.request.producer_name
        """The producer's name."""
        self._opening = opening
        self._with_trace = with_trace()
        self._codec = codec
        self._publisher: Publisher | None = None
        self._calls: v0_2.Producer | None = None
        self.closed = False
        """Whether it was closed: it takes no more messages."""

    @property
    def topics(self) -> list[str]:
        """The topic itself, or its partitions in order; none before the producer is open."""
        using = self._publisher or self._calls
        return [] if using is None else list(using.topics)

    @property
    def streaming(self) -> bool:
        """Whether native streaming carries the messages, so that ``send`` returns positions."""
        return self._publisher is not None

    @property
    def unanswered(self) -> int:
        """How many messages are neither stored nor refused yet; 0 on a platform without native streaming."""
        return 0 if self._publisher is None else self._publisher.unanswered

    async def send(
        self, payload: Any, attributes: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> int:
        """Send a message and wait until the platform has stored it.

        Concurrent calls are sent in the order in which they were made. While the connection is lost the call
        waits; the message is stored once, however often it had to be sent.

        Args:
            payload: bytes and text travel as they are, a number as decimal text, all else as JSON, or what
                the producer's codec makes of it.
            attributes: travel with the message.
            key: messages of one key go to the same partition, in order. Without a key messages go to the
                partitions in turn.

        Returns:
            The message's position in its topic; 0 if the topic is non-reliable, or if the message was stored
            before the connection was lost and sent again after. On a platform without native streaming its
            sequence id.

        Raises:
            TypeError: the payload, the key or an attribute is nothing that can be sent.
            TopicDeleted: the topic was deleted.
            SendTimeout: the message was not stored within ``send_timeout_s``.
            Unsupported: a key on a platform without native streaming.
            CallError: the platform refused the message.
            Closed: the producer was closed.
        """
        return await (await self.post(payload, attributes, key=key))

    async def post(
        self, payload: Any, attributes: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> asyncio.Future[int]:
        """Send a message without waiting for the answer; waits for room in the buffer only.

        Returns:
            A future with what ``send`` returns or raises. It need not be awaited.

        Raises:
            TypeError: the payload, the key or an attribute is nothing that can be sent.
            SendTimeout: there was no room within ``send_timeout_s``.
            ClientError: the producer has ended, or was not opened.
        """
        publisher = self._publisher
        if self._with_trace is not None:
            attributes = self._with_trace(attributes)
        if self._codec is not None:
            payload = self._codec.encode(payload)
        elif not isinstance(payload, bytes):
            payload = encode(payload, None if publisher is None else publisher.schema)
        if publisher is not None and not self.closed:
            return await publisher.post(payload, key, attributes)
        if self.closed or self._calls is None:
            raise Closed(
                "the producer is closed" if self.closed else "the producer is not open: use `async with`"
            )
        return await self._calls.post(payload, attributes, key=key)

    async def flush(self) -> None:
        """Wait until every message sent so far has succeeded or failed."""
        using = self._publisher or self._calls
        if using is not None:
            await using.flush()

    async def close(self) -> None:
        """Accept no more messages, wait for those in flight, and stop."""
        self.closed = True
        await self.flush()
        await self.abort()

    async def abort(self) -> None:
        """Stop at once. Messages in flight fail with Closed; the platform may have stored them."""
        self.closed = True
        using = self._publisher or self._calls
        if using is not None:
            await using.abort()

    async def open(self) -> Self:
        """Open the producer; the topic or partitions are created if they do not exist.

        Raises:
            InvalidRequest: the topic has another number of partitions than was asked for.
            CallError: the platform refused, or was not ready within the retries.
        """
        using = await self._opening.open()
        if isinstance(using, Publisher):
            self._publisher = using
        else:
            self._calls = using
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

    def __del__(self) -> None:
        publisher = getattr(self, "_publisher", None)
        if publisher is None or self.closed:
            return
        if count := publisher.unanswered:
            warnings.warn(
                f"producer {self.name} was dropped with {count} unanswered messages, which may be lost: use"
                " `async with`, or `await producer.close()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        publisher.cancel()
