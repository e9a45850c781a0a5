"""The client: entry point for producers, consumers and readers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

from danube_client.connection import Connections
from danube_client.consumer import ACKS_IN_FLIGHT_MAX, Consumer, ConsumerOpening, SubscriptionType
from danube_client.events import OnEvent, ignore
from danube_client.names import generated_name
from danube_client.payload import codec_for
from danube_client.producer import AccessMode, Producer, ProducerOpening
from danube_client.reader import Reader, ReaderOpening
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.start import Start
from danube_client.strategy import NonReliable, Strategy
from danube_client.stream import batch, conversion
from danube_client.stream.batch import Compression
from danube_client.stream.presence import logger
from danube_client.stream.publisher import BUFFER_BYTES, BUFFER_MESSAGES, PublisherOptions
from danube_client.stream.subscriber import SubscriberOptions
from danube_client.tls import Tls
from danube_client.topic_calls import TopicCalls
from danube_client.v0_2.health import INTERVAL_S
from danube_proto import danube_stream_pb2 as api

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
STREAMING = True


class Client(TopicCalls):
    """Makes producers, consumers and readers.

    ``connect`` creates a client; ``async with`` or ``await`` opens it.
    """

    def __init__(
        self,
        connections: Connections,
        retry: Retry,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
        health_interval_s: float = INTERVAL_S,
        *,
        streaming: bool = STREAMING,
    ) -> None:
        super().__init__(connections, retry)
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._health_interval_s = health_interval_s
        self._streaming = streaming
        self._made: weakref.WeakSet[Producer | Consumer] = weakref.WeakSet()

    def producer(
        self,
        topic: str,
        *,
        name: str | None = None,
        schema: Schema | None = None,
        strategy: Strategy | None = None,
        access_mode: AccessMode = AccessMode.SHARED,
        partitions: int | None = None,
        in_flight_max: int | None = None,
        recreate: bool = False,
        codec: Any = None,
        compression: Compression = Compression.NONE,
        linger_ms: float = 0,
        buffer_bytes: int = BUFFER_BYTES,
        send_timeout_s: float | None = None,
        idempotent: bool | None = None,
        on_event: OnEvent = ignore,
    ) -> Producer:
        """Return a producer; ``async with`` or ``await`` opens it.

        Args:
            topic: ``/namespace/topic``. The partitions of a topic get messages with a key by its hash, others
                in turn.
            name: the producer's name. Give each producer a name of its own, or none: a producer takes the
                name over from another one that has it. None generates one that no other producer has.
            schema: the type of the payloads, or a subject of the schema registry. None accepts the schema of
                an existing topic; a new topic takes any bytes.
            strategy: how messages are kept. None accepts the strategy of an existing topic; a new topic
                is ``Reliable()``: it keeps its messages until they are acknowledged.
            access_mode: whether other producers may send to the topic.
            partitions: the number of partitions, ``{topic}-part-0``, ``-1``, ..., which are created if the
                topic is new. None takes the topic as it is. Partitions that are added later get their
                messages, too; without native streaming they are not noticed.
            in_flight_max: unanswered messages at which ``send`` and ``post`` wait; None is BUFFER_MESSAGES,
                and IN_FLIGHT_MAX without native streaming. There, 1 keeps the order when a message fails
                and is sent again; native streaming always keeps it.
            recreate: whether the producer creates its topic again, with ``schema`` and ``strategy``, when the
                topic was deleted. Otherwise it fails with TopicDeleted from then on.
            codec: makes payloads of what is sent: a dataclass, a pydantic model, a msgspec Struct, or an
                object with ``encode(value)`` and ``decode(payload)``.
            compression: of batches. A platform without native streaming gets them uncompressed.
            linger_ms: how long a message waits for others when nothing is on its way. Those that come while a
                batch is on its way gather anyway.
            buffer_bytes: bytes of unanswered messages at which ``send`` and ``post`` wait.
            send_timeout_s: seconds after which a message that is not stored fails with SendTimeout; None
                waits as long as it takes, also while the connection is lost.
            idempotent: whether a message that had to be sent again is stored once. None is yes, where the
                topic is reliable.
            on_event: called with each `Disconnected` and `Reconnected`.

        Raises:
            ValueError: a number is out of range, or ``recreate`` lacks a schema or strategy.
            TypeError: ``codec`` is none, or ``strategy`` or ``schema`` has another type.
            ClientError: the library of the compression is not installed.
        """
        if partitions is not None and partitions < 1:
            raise ValueError("partitions must be at least 1")
        if in_flight_max is not None and in_flight_max < 1:
            raise ValueError("in_flight_max must be at least 1")
        if recreate and (schema is None or strategy is None):
            raise ValueError("recreate needs the schema and the strategy to create the topic with")
        batch.require(compression)
        opening = ProducerOpening(
            self._connections,
            self._existing,
            api.OpenProducer(
                topic=topic,
                producer_name=name or generated_name(),
                access_mode=api.OpenProducer.AccessMode.Name(int(access_mode)),
                partitions=partitions or 0,
                dispatch=conversion.dispatch(strategy),
                schema=conversion.schema_to_wire(schema),
                idempotent=not isinstance(strategy, NonReliable) if idempotent is None else idempotent,
            ),
            strategy,
            schema,
            partitions,
            idempotent,
            in_flight_max,
            self._streaming,
            PublisherOptions(
                self._retry,
                self._call_timeout_s,
                recreate,
                compression,
                linger_ms / 1000,
                buffer_bytes,
                in_flight_max or BUFFER_MESSAGES,
                send_timeout_s,
            ),
            self._health_interval_s,
            on_event,
        )
        producer = Producer(opening, codec_for(codec))
        self._made.add(producer)
        return producer

    def consumer(
        self,
        topic: str | Sequence[str],
        subscription: str,
        *,
        name: str | None = None,
        type: SubscriptionType = SubscriptionType.SHARED,  # noqa: A002 - the word of the domain
        initial_position: Start | None = None,
        reconnect: bool = True,
        acks_in_flight_max: int = ACKS_IN_FLIGHT_MAX,
        prefetch: int | None = None,
        on_event: OnEvent = ignore,
        raise_on_loss: bool = False,
        codec: Any = None,
        key_filters: Sequence[str] = (),
        await_topics: bool = False,
    ) -> Consumer:
        """Return a consumer; ``async with`` or ``await`` opens it, ``async for`` receives its messages.

        Args:
            topic: ``/namespace/topic``; several of them; or a pattern with ``*`` and ``?``, which stands for
                all topics that match, also later ones. A partitioned topic stands for all its partitions.
            subscription: the subscription's name. Each subscription receives every message.
            name: the consumer's name; the same name in the same subscription is the same consumer, and a
                second client of that name takes over from the first. None generates a name of its own.
            type: how the subscription shares messages among its consumers. An existing subscription
                keeps its type.
            initial_position: where a new subscription begins; ``Consumer.created`` tells whether it is
                new. An existing subscription continues at its cursor. None begins at the oldest message.
            reconnect: whether the consumer subscribes again when its stream ends, with the pauses of the
                client's retry and without end. It is refused, and ends with the error, when its topic was
                deleted or another client took over its name.
            acks_in_flight_max: unanswered acknowledgements at which ``post_ack`` waits, on a platform without
                native streaming.
            prefetch: how many unacknowledged messages of a topic or partition the consumer takes at once.
                None leaves it to the platform. With few, slow consumers of a shared subscription leave more
                to the others.
            on_event: called with each `Disconnected`, `Reconnected`, `Lost`, `Assigned` and `EndOfBacklog`.
                What it raises, the iteration raises.
            raise_on_loss: whether the iteration raises MessagesLost when the subscription lost messages.
            codec: makes ``message.value`` of payloads; see `producer`.
            key_filters: globs of keys, for KEY_SHARED.
            await_topics: whether topics that do not exist are awaited, instead of failing with TopicNotFound.

        Raises:
            ValueError: ``prefetch`` is below 1, or there is no topic.
            TypeError: ``codec`` is none, or ``type`` or ``initial_position`` has another type.
        """
        if prefetch is not None and prefetch < 1:
            raise ValueError("prefetch must be at least 1")
        conversion.require(type, SubscriptionType, "a type is one of SubscriptionType")
        topics = [topic] if isinstance(topic, str) else list(topic)
        if not topics:
            raise ValueError("a consumer needs a topic")
        pattern = topics[0] if len(topics) == 1 and ("*" in topics[0] or "?" in topics[0]) else ""
        opening = ConsumerOpening(
            self._connections,
            self.partitions,
            api.Subscribe(
                topics=[] if pattern else topics,
                pattern=pattern,
                subscription=subscription,
                type=api.Subscribe.Type.Name(int(type)),
                consumer_name=name or generated_name(),
                start=conversion.start(initial_position),
                key_filters=key_filters,
                compressions=_compressions(),
                prefetch=prefetch or 0,
                await_topics=await_topics,
                scattered=True,
            ),
            type,
            initial_position,
            acks_in_flight_max,
            self._streaming,
            SubscriberOptions(self._retry, self._call_timeout_s, reconnect, raise_on_loss, codec_for(codec)),
            self._health_interval_s,
            on_event,
        )
        consumer = Consumer(opening)
        self._made.add(consumer)
        return consumer

    def reader(
        self,
        topic: str,
        *,
        start: Start | None = None,
        end_position: int | None = None,
        max_messages: int | None = None,
        follow: bool = False,
        codec: Any = None,
        on_event: OnEvent = ignore,
    ) -> Reader:
        """Return a reader of a topic without a subscription; ``async with`` or ``await`` opens it.

        Args:
            topic: ``/namespace/topic``: a topic, a partition, or the base of a partitioned topic.
            start: where to begin; None is the oldest message that is retained.
            end_position: the last position to be read. None reads to the end of the topic as it is when the
                reading begins.
            max_messages: so many messages at most, of each partition.
            follow: whether to go on with what is published later.
            codec: makes ``message.value`` of payloads; see `producer`.
            on_event: called with each `Disconnected`, `Reconnected`, and with `Lost` for messages that
                are retained no more or cannot be read.
        """
        request = api.ReadRequest(
            topic=topic,
            start=conversion.start(start or Start()),
            end_position=end_position,
            messages_max=max_messages or 0,
            follow=follow,
            compressions=_compressions(),
        )

        async def describe(question: api.DescribeTopicRequest) -> api.DescribeTopicResponse:
            return await self._ask_streaming(
                lambda connection: connection.describe_topic(question), "readers"
            )

        return Reader(
            ReaderOpening(self._connections, describe, request, self._retry, on_event, codec_for(codec))
        )

    async def open(self) -> Self:
        """Connect to the first address that answers.

        Raises:
            Unreachable: no address answers.
        """
        try:
            await self._connections.ready(self._connect_timeout_s)
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def close(self) -> None:
        """Close the producers and consumers that are open, then the connections.

        What they have not sent and not acknowledged is awaited for ``call_timeout_s`` at most; what is
        unanswered then fails with Closed.
        """
        await self._close_all(self._call_timeout_s)

    async def _close_all(self, timeout_s: float) -> None:
        made = [one for one in self._made if not one.closed]
        try:
            if timeout_s:
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(*(one.close() for one in made), return_exceptions=True)
        except TimeoutError:
            logger.warning("the client was closed before everything was answered")
        finally:
            await asyncio.gather(*(one.abort() for one in made), return_exceptions=True)
            await self._connections.close()

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_all(self._call_timeout_s if kind is None else 0)


def _compressions() -> list[str]:
    """Return the names of those that this process can undo."""
    return [api.Compression.Name(int(kind)) for kind in batch.available()]


def connect(
    *addresses: str,
    retry: Retry | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    call_timeout_s: float = CALL_TIMEOUT_S,
    health_interval_s: float = INTERVAL_S,
    tls: Tls | None = None,
    streaming: bool = STREAMING,
) -> Client:
    """Return a client; ``async with`` or ``await`` opens it.

    Args:
        addresses: ``http://host:port`` or ``https://host:port`` of one or more gateways. Every gateway serves
            every topic; when one is lost, the client uses the next.
        retry: how often and how fast temporary failures are retried.
        connect_timeout_s: seconds that an address may take to accept the connection.
        call_timeout_s: seconds that one call may take.
        health_interval_s: seconds between two health checks of a producer or consumer.
        tls: certificates and names for ``https://`` addresses, with which no other address is used; and the
            token of this client.
        streaming: whether to use native streaming where the platform has it. Without it, and where the
            platform lacks it, producers and consumers make the calls of v0.2.

    Raises:
        InvalidAddress: an address is none of these.
    """
    return Client(
        Connections(addresses, call_timeout_s, tls),
        retry or Retry(),
        connect_timeout_s,
        call_timeout_s,
        health_interval_s,
        streaming=streaming,
    )
