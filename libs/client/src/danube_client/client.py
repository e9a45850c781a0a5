"""The client: entry point for producers, consumers and readers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from danube_client.connection import Connection, Connections
from danube_client.consumer import ACKS_IN_FLIGHT_MAX, Consumer, SubscriptionType
from danube_client.errors import (
    ELSEWHERE,
    RECOVERABLE,
    CallError,
    InvalidRequest,
    TopicNotFound,
    Unsupported,
)
from danube_client.events import OnEvent, ignore
from danube_client.failure_policy import FailurePolicy
from danube_client.names import generated_name
from danube_client.payload import codec_for
from danube_client.producer import IN_FLIGHT_MAX, AccessMode, Producer
from danube_client.reader import Reader
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.start import Start, StartKind
from danube_client.strategy import NonReliable, Strategy
from danube_client.stream import batch, conversion
from danube_client.stream.batch import Compression
from danube_client.stream.presence import Presence, logger
from danube_client.stream.publisher import BUFFER_BYTES, BUFFER_MESSAGES, Publisher, PublisherOptions
from danube_client.stream.reading import Reading
from danube_client.stream.subscriber import Subscriber, SubscriberOptions
from danube_client.tls import Tls
from danube_client.topic_info import Topic, TopicInfo, topic_info
from danube_client.v0_2 import consumer as v0_2_consumer
from danube_client.v0_2 import producer as v0_2_producer
from danube_client.v0_2.health import INTERVAL_S
from danube_client.v0_2.opening import open_consumer, open_producer
from danube_client.v0_2.topic_consumer import ConsumerOptions
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as api

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
STREAMING = True


class Client:
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
        self._connections = connections
        self._retry = retry
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
            TypeError: ``codec`` is none.
            ClientError: the library of the compression is not installed.
        """
        if partitions is not None and partitions < 1:
            raise ValueError("partitions must be at least 1")
        if in_flight_max is not None and in_flight_max < 1:
            raise ValueError("in_flight_max must be at least 1")
        if recreate and (schema is None or strategy is None):
            raise ValueError("recreate needs the schema and the strategy to create the topic with")
        batch.require(compression)
        name = name or generated_name()
        options = PublisherOptions(
            self._retry,
            self._call_timeout_s,
            recreate,
            compression,
            linger_ms / 1000,
            buffer_bytes,
            in_flight_max or BUFFER_MESSAGES,
            send_timeout_s,
        )
        access = api.OpenProducer.AccessMode.Name(int(access_mode))
        request = api.OpenProducer(
            topic=topic,
            producer_name=name,
            access_mode=access,
            partitions=partitions or 0,
            dispatch=conversion.dispatch(strategy),
            schema=conversion.schema_to_wire(schema),
            idempotent=not isinstance(strategy, NonReliable) if idempotent is None else idempotent,
        )

        async def by_streaming() -> Publisher:
            presence = Presence(f"producer {name}", topic, on_event, asyncio.get_running_loop().time)
            publisher = Publisher(self._connections, request, options, presence)
            try:
                await publisher.open()
            except InvalidRequest as error:
                if idempotent is not None or not request.idempotent or "idempotent" not in error.message:
                    raise
                request.idempotent = False  # the topic is there, and is not reliable
                publisher = Publisher(self._connections, request, options, presence)
                await publisher.open()
            return publisher

        async def by_calls() -> v0_2_producer.Producer:
            return await open_producer(
                self._connections,
                self._existing,
                wire.ProducerRequest(
                    producer_name=name,
                    topic_name=topic,
                    schema=None if schema is None else schema.to_wire(),
                    producer_access_mode=wire.ProducerAccessMode.Name(int(access_mode)),
                    dispatch_strategy=None if strategy is None else strategy.to_wire(),
                ),
                self._retry,
                self._health_interval_s,
                partitions=partitions,
                in_flight_max=in_flight_max or IN_FLIGHT_MAX,
                recreate=recreate,
            )

        async def opening() -> Publisher | v0_2_producer.Producer:
            if self._streaming:
                try:
                    return await by_streaming()
                except CallError as error:
                    if not _is_missing(error):
                        raise
            if idempotent:
                raise Unsupported.by(self._connections.home.address, "idempotent producers")
            if schema is not None and schema.subject:
                raise Unsupported.by(self._connections.home.address, "subjects of the schema registry")
            return await by_calls()

        producer = Producer(name, opening, codec_for(codec))
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
            TypeError: ``codec`` is none.
        """
        if prefetch is not None and prefetch < 1:
            raise ValueError("prefetch must be at least 1")
        topics = [topic] if isinstance(topic, str) else list(topic)
        if not topics:
            raise ValueError("a consumer needs a topic")
        name = name or generated_name()
        the_codec = codec_for(codec)
        pattern = topics[0] if len(topics) == 1 and ("*" in topics[0] or "?" in topics[0]) else ""
        request = api.Subscribe(
            topics=[] if pattern else topics,
            pattern=pattern,
            subscription=subscription,
            type=api.Subscribe.Type.Name(int(type)),
            consumer_name=name,
            start=conversion.start(initial_position),
            key_filters=key_filters,
            compressions=[api.Compression.Name(int(kind)) for kind in batch.available()],
            prefetch=prefetch or 0,
            await_topics=await_topics,
            scattered=True,
        )
        options = SubscriberOptions(self._retry, self._call_timeout_s, reconnect, raise_on_loss, the_codec)

        async def by_streaming() -> Subscriber:
            where = ", ".join(topics)
            presence = Presence(f"consumer {name}", where, on_event, asyncio.get_running_loop().time)
            subscriber = Subscriber(self._connections, request, options, presence)
            await subscriber.open()
            return subscriber

        async def by_calls() -> v0_2_consumer.Consumer:
            return await open_consumer(
                self._connections,
                self.partitions,
                wire.ConsumerRequest(
                    topic_name=topics[0],
                    consumer_name=name,
                    subscription=subscription,
                    subscription_type=wire.ConsumerRequest.SubscriptionType.Name(int(type)),
                ),
                self._retry,
                self._health_interval_s,
                ConsumerOptions(initial_position, reconnect, prefetch, on_event, raise_on_loss, the_codec),
                acks_in_flight_max,
            )

        async def opening() -> Subscriber | v0_2_consumer.Consumer:
            if self._streaming:
                try:
                    return await by_streaming()
                except CallError as error:
                    if not _is_missing(error):
                        raise
            for wanted, what in (
                (len(topics) > 1, "several topics at once"),
                (pattern, "patterns of topics"),
                (type is SubscriptionType.KEY_SHARED, "KEY_SHARED subscriptions"),
                (await_topics, "await_topics"),
            ):
                if wanted:
                    raise Unsupported.by(self._connections.home.address, what)
            return await by_calls()

        consumer = Consumer(name, opening)
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
        the_codec = codec_for(codec)

        async def resolve() -> list[Reading]:
            answer = await self._ask_streaming(
                lambda connection: connection.describe_topic(api.DescribeTopicRequest(topic=topic)), "readers"
            )
            if not answer.exists:
                raise TopicNotFound("NOT_FOUND", f"there is no topic {topic}")
            parts = [part.topic for part in answer.topics]
            positioned = end_position is not None or (start is not None and start.kind is StartKind.POSITION)
            if positioned and len(parts) > 1:
                raise InvalidRequest(
                    "INVALID_ARGUMENT",
                    f"a position belongs to one topic, and {topic} has {len(parts)} partitions",
                )
            clock = asyncio.get_running_loop().time
            return [
                Reading(
                    self._connections,
                    api.ReadRequest(
                        topic=part,
                        start=conversion.start(start or Start()),
                        end_position=end_position,
                        messages_max=max_messages or 0,
                        follow=follow,
                        compressions=[api.Compression.Name(int(kind)) for kind in batch.available()],
                    ),
                    self._retry,
                    Presence("a reader", part, on_event, clock),
                    the_codec,
                )
                for part in parts
            ]

        return Reader(resolve, together=follow)

    async def topics(self, pattern: str = "/default/*") -> list[Topic]:
        """Return the topics that match, by name; a partitioned topic is one of them.

        Args:
            pattern: ``/namespace/glob`` with ``*`` and ``?``, or a namespace.

        Raises:
            Unsupported: the platform has no native streaming.
            CallError: the platform refused, or was not ready within the retries.
        """
        request = api.ListTopicsRequest(pattern=pattern)
        answer = await self._ask_streaming(
            lambda connection: connection.list_topics(request), "listing topics"
        )
        return [Topic(topic.topic, topic.partitions, topic.reliable) for topic in answer.topics]

    async def create_subscription(
        self,
        topic: str,
        subscription: str,
        *,
        type: SubscriptionType = SubscriptionType.SHARED,  # noqa: A002 - the word of the domain
        initial_position: Start | None = None,
        prefetch: int = 0,
    ) -> bool:
        """Create a subscription without a consumer, of the topic or of each of its partitions.

        Args:
            topic: ``/namespace/topic``.
            subscription: the subscription's name.
            type: how it will share messages among its consumers.
            initial_position: where it begins; None is at the oldest message.
            prefetch: how many unacknowledged messages each of its consumers takes at once that asks for no
                prefetch of its own, as the official clients do. 0 is as many as the platform allows.

        Returns:
            Whether it is new. An existing subscription stays as it is.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        created = True
        for part in await self.partitions(topic):
            request = platform.CreateSubscriptionRequest(
                topic=part,
                subscription=subscription,
                type=platform.CreateSubscriptionRequest.Type.Name(int(type)),
                start=None if initial_position is None else initial_position.to_wire(),
                prefetch=prefetch,
            )
            answer = await self._ask(partial(_create_subscription, request=request))
            created = created and answer.created
        return created

    async def set_failure_policy(self, topic: str, subscription: str, policy: FailurePolicy) -> None:
        """Say what a subscription does with messages that its consumers fail to process.

        It holds from now on, also for what failed before, and for all consumers of the subscription.
        Partitions get it one after the other.

        Args:
            topic: ``/namespace/topic``, which is reliable; a partitioned topic stands for all its partitions.
            subscription: an existing subscription.
            policy: its policy from now on.

        Raises:
            TopicNotFound, SubscriptionNotFound: it does not exist.
            InvalidRequest: the policy is none that the subscription can have.
            Denied: the topic is not reliable, or the client may not produce on the dead-letter topic.
            Unsupported: the platform speaks v0.2 only, or is older than this call.
        """
        for part in await self.partitions(topic):
            request = platform.SetFailurePolicyRequest(
                topic=part, subscription=subscription, policy=policy.to_wire()
            )
            await self._ask_streaming(partial(_set_failure_policy, request=request), "failure policies")

    async def failure_policy(self, topic: str, subscription: str) -> FailurePolicy:
        """Return the failure policy of a subscription; of a partitioned topic, that of its first partition.

        Raises:
            TopicNotFound, SubscriptionNotFound: it does not exist.
            Denied: the topic is not reliable.
            Unsupported: the platform speaks v0.2 only, or is older than this call.
        """
        part = (await self.partitions(topic))[0]
        request = platform.GetFailurePolicyRequest(topic=part, subscription=subscription)
        answer = await self._ask_streaming(
            lambda connection: connection.get_failure_policy(request), "failure policies"
        )
        return FailurePolicy.from_wire(answer.policy)

    async def partitions(self, topic: str) -> list[str]:
        """Return the topic itself if it exists, else the names of its partitions.

        Raises:
            TopicNotFound: neither exists.
            CallError: the platform refuses, or did not become ready within the retries.
        """
        if not (existing := await self._existing(topic)):
            raise TopicNotFound("NOT_FOUND", f"there is no topic {topic}")
        return existing

    async def describe(self, topic: str) -> list[TopicInfo]:
        """Return the facts of a topic or of each of its partitions; none from a broker of v0.2.

        Raises:
            TopicNotFound: no such topic exists.
            CallError: the platform refused, or was not ready within the retries.
        """
        found: list[TopicInfo] = []
        for part in await self.partitions(topic):
            info = await self._ask(partial(topic_info, topic=part))
            if info is not None:
                found.append(info)
        return found

    async def _existing(self, topic: str) -> list[str]:
        request = wire.TopicLookupRequest(topic=topic)
        response = await self._ask(lambda connection: connection.topic_partitions(request))
        return list(response.partitions)

    async def schema(self, topic: str) -> Schema:
        """Return the schema of a topic or of its partitions.

        Raises:
            TopicNotFound: no such topic exists.
            CallError: the platform refused, or was not ready within the retries.
        """
        request = wire.SchemaRequest(topic=topic)
        response = await self._ask(lambda connection: connection.get_schema(request))
        return Schema.from_wire(response.schema)

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

    async def _ask_streaming(self, question: Callable[[Connection], Awaitable[T]], what: str) -> T:
        try:
            return await self._ask(question)
        except CallError as error:
            if _is_missing(error):
                raise Unsupported.by(self._connections.home.address, what) from None
            raise

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        async def attempt() -> T:
            connection = self._connections.home
            try:
                return await question(connection)
            except ELSEWHERE:
                self._connections.after(connection)
                raise

        return await self._retry.run(attempt, on=RECOVERABLE)

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_all(self._call_timeout_s if kind is None else 0)


def _is_missing(error: CallError) -> bool:
    """Whether the platform lacks the method: it speaks v0.2 only."""
    return error.code == "UNIMPLEMENTED"


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


async def _create_subscription(
    connection: Connection, request: platform.CreateSubscriptionRequest
) -> platform.CreateSubscriptionResponse:
    return await connection.create_subscription(request)


async def _set_failure_policy(
    connection: Connection, request: platform.SetFailurePolicyRequest
) -> platform.FailurePolicyResponse:
    return await connection.set_failure_policy(request)
