"""The client: entry point for producers and consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from danube_client.connection import Connection, Connections
from danube_client.consumer import ACKS_IN_FLIGHT_MAX, Consumer, SubscriptionType
from danube_client.errors import ELSEWHERE, RECOVERABLE, InvalidRequest, TopicNotFound
from danube_client.events import OnEvent
from danube_client.health import INTERVAL_S
from danube_client.names import generated_name
from danube_client.producer import IN_FLIGHT_MAX, AccessMode, Producer
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.start import Start, StartKind
from danube_client.strategy import Strategy
from danube_client.tls import Tls
from danube_client.topic_consumer import ConsumerOptions, TopicConsumer, ignore
from danube_client.topic_info import TopicInfo, topic_info
from danube_client.topic_producer import TopicProducer
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
# How long a producer waits for partitions that another one may be creating.
PARTITION_CHECKS_MAX = 10
PARTITION_CHECK_S = 0.1


class Client:
    """Makes producers and consumers. ``connect`` creates a client; ``async with`` or ``await`` opens it."""

    def __init__(
        self,
        addresses: Sequence[str],
        retry: Retry,
        connect_timeout_s: float,
        call_timeout_s: float,
        health_interval_s: float,
        tls: Tls | None = None,
    ) -> None:
        self._connections = Connections(addresses, call_timeout_s, tls)
        self._retry = retry
        self._connect_timeout_s = connect_timeout_s
        self._health_interval_s = health_interval_s

    def producer(
        self,
        topic: str,
        *,
        name: str | None = None,
        schema: Schema | None = None,
        strategy: Strategy | None = None,
        access_mode: AccessMode = AccessMode.SHARED,
        partitions: int | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        recreate: bool = False,
    ) -> Producer:
        """Return a producer; ``async with`` or ``await`` opens it.

        Args:
            topic: ``/namespace/topic``. If only its partitions exist, messages go to them in turn.
            name: the producer's name; the same name on the same topic is the same producer. None generates
                one that no other producer has.
            schema: the type of the payloads. None accepts the schema of an existing topic; a new topic
                gets a string schema.
            strategy: how messages are kept. None accepts the strategy of an existing topic; a new topic
                is ``Reliable()``: it keeps its messages until they are acknowledged.
            access_mode: whether other producers may send to the topic.
            partitions: the number of partitions, which are created if the topic is new. Messages go to
                ``{topic}-part-0``, ``-1``, ... in turn, from producers named ``{name}-0``, ``-1``, ... None
                takes the topic as it is. Partitions that are added later are not noticed.
            in_flight_max: unanswered messages at which ``send`` and ``post`` wait. With 1 the order is
                kept even when a message fails and is sent again.
            recreate: whether the producer creates its topic again, with ``schema`` and ``strategy``, when the
                topic was deleted. Otherwise it fails with TopicDeleted from then on.

        Raises:
            ValueError: ``partitions`` or ``in_flight_max`` is below 1, or ``recreate`` lacks a schema or
                strategy.
        """
        if partitions is not None and partitions < 1:
            raise ValueError("partitions must be at least 1")
        if in_flight_max < 1:
            raise ValueError("in_flight_max must be at least 1")
        if recreate and (schema is None or strategy is None):
            raise ValueError("recreate needs the schema and the strategy to create the topic with")
        name = name or generated_name()
        room = asyncio.Semaphore(in_flight_max)

        async def resolve() -> Sequence[TopicProducer]:
            topics = await self._targets(topic, partitions)
            return [
                TopicProducer(
                    self._connections,
                    wire.ProducerRequest(
                        producer_name=name if target == topic else f"{name}-{target.rpartition('-')[2]}",
                        topic_name=target,
                        schema=None if schema is None else schema.to_wire(),
                        producer_access_mode=wire.ProducerAccessMode.Name(int(access_mode)),
                        dispatch_strategy=None if strategy is None else strategy.to_wire(),
                    ),
                    self._retry,
                    room,
                    self._health_interval_s,
                    recreate=recreate,
                )
                for target in topics
            ]

        return Producer(name, resolve, room)

    def consumer(
        self,
        topic: str,
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
    ) -> Consumer:
        """Return a consumer; ``async with`` or ``await`` opens it, ``async for`` receives its messages.

        Args:
            topic: ``/namespace/topic``. If only its partitions exist, all of them are consumed.
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
            acks_in_flight_max: unanswered acknowledgements at which ``post_ack`` waits.
            prefetch: how many unacknowledged messages of a topic or partition the consumer takes at once.
                None leaves it to the platform. With few, slow consumers of a shared subscription leave more
                to the others.
            on_event: called with each `Disconnected`, `Reconnected` and `Lost`. What it raises, the
                iteration raises.
            raise_on_loss: whether the iteration raises MessagesLost when the subscription lost messages.

        Raises:
            ValueError: ``prefetch`` is below 1.
        """
        if prefetch is not None and prefetch < 1:
            raise ValueError("prefetch must be at least 1")
        name = name or generated_name()
        options = ConsumerOptions(initial_position, reconnect, prefetch, on_event, raise_on_loss)

        async def resolve() -> Sequence[TopicConsumer]:
            parts = await self.partitions(topic)
            if len(parts) > 1 and initial_position and initial_position.kind is StartKind.POSITION:
                raise InvalidRequest(
                    "INVALID_ARGUMENT",
                    f"a position belongs to one topic, and {topic} has {len(parts)} partitions",
                )
            return [
                TopicConsumer(
                    self._connections,
                    wire.ConsumerRequest(
                        topic_name=part,
                        consumer_name=name,
                        subscription=subscription,
                        subscription_type=wire.ConsumerRequest.SubscriptionType.Name(int(type)),
                    ),
                    self._retry,
                    self._health_interval_s,
                    options,
                )
                for part in parts
            ]

        return Consumer(name, resolve, acks_in_flight_max, prefetch)

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

    async def _targets(self, topic: str, partitions: int | None) -> list[str]:
        """Return the topics that a producer sends to.

        Raises:
            InvalidRequest: ``partitions`` is given, and the topic exists with another number of them.
        """
        existing = await self._existing(topic)
        if partitions is None:
            return existing or [topic]
        wanted = [f"{topic}-part-{part}" for part in range(partitions)]
        for _ in range(PARTITION_CHECKS_MAX):
            if not existing or not set(existing) < set(wanted):
                break
            # Perhaps another producer is creating them at this moment.
            await asyncio.sleep(PARTITION_CHECK_S)
            existing = await self._existing(topic)
        if existing and set(existing) != set(wanted):
            what = "is not partitioned" if existing == [topic] else f"has {_counted(len(existing))}"
            raise InvalidRequest("INVALID_ARGUMENT", f"topic {topic} {what}, not {_counted(partitions)}")
        return wanted

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
        """Close the connections. Close producers and consumers first."""
        await self._connections.close()

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
        await self.close()


def _counted(partitions: int) -> str:
    return f"{partitions} partition{'' if partitions == 1 else 's'}"


def connect(
    *addresses: str,
    retry: Retry | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    call_timeout_s: float = CALL_TIMEOUT_S,
    health_interval_s: float = INTERVAL_S,
    tls: Tls | None = None,
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

    Raises:
        InvalidAddress: an address is none of these.
    """
    return Client(addresses, retry or Retry(), connect_timeout_s, call_timeout_s, health_interval_s, tls)


async def _create_subscription(
    connection: Connection, request: platform.CreateSubscriptionRequest
) -> platform.CreateSubscriptionResponse:
    return await connection.create_subscription(request)
