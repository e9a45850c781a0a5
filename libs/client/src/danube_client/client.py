"""The door to the platform."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from danube_client.connection import Connection, Connections
from danube_client.consumer import ACKS_IN_FLIGHT_MAX, Consumer, SubscriptionType
from danube_client.errors import ELSEWHERE, RECOVERABLE, InvalidRequest, TopicNotFound
from danube_client.health import INTERVAL_S
from danube_client.producer import IN_FLIGHT_MAX, AccessMode, Producer
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.start import Start, StartKind
from danube_client.strategy import Strategy
from danube_client.topic_consumer import TopicConsumer
from danube_client.topic_producer import TopicProducer
from danube_proto import danube_api_pb2 as wire

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0


class Client:
    """Producers and consumers of one platform; made by ``connect``, opened by ``async with`` or ``await``."""

    def __init__(
        self,
        addresses: Sequence[str],
        retry: Retry,
        connect_timeout_s: float,
        call_timeout_s: float,
        health_interval_s: float,
    ) -> None:
        self._connections = Connections(addresses, call_timeout_s)
        self._retry = retry
        self._connect_timeout_s = connect_timeout_s
        self._health_interval_s = health_interval_s

    def producer(
        self,
        topic: str,
        *,
        name: str,
        schema: Schema | None = None,
        strategy: Strategy | None = None,
        access_mode: AccessMode = AccessMode.SHARED,
        partitions: int | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> Producer:
        """A producer, to be opened by ``async with`` or ``await``.

        Args:
            topic: ``/namespace/topic``.
            name: the producer's name: the same name on the same topic is the same producer.
            schema: what the payloads are. None takes a topic as it is, and creates a new one for text.
            strategy: how the messages are kept. None takes a topic as it is, and creates a new one
                that keeps nothing.
            access_mode: whether other producers may send to the topic.
            partitions: sends round ``{topic}-part-0``, ``-1``, ... instead, as ``{name}-0``, ``-1``, ...
            in_flight_max: messages without an answer before ``send`` and ``post`` wait; 1 keeps the order
                even when single messages fail and are sent again.
        """
        if partitions is not None and partitions < 1:
            raise ValueError("partitions must be at least 1")
        if in_flight_max < 1:
            raise ValueError("in_flight_max must be at least 1")
        places = [(topic, name)]
        if partitions is not None:
            places = [(f"{topic}-part-{part}", f"{name}-{part}") for part in range(partitions)]
        room = asyncio.Semaphore(in_flight_max)
        topic_producers = [
            TopicProducer(
                self._connections,
                wire.ProducerRequest(
                    producer_name=part_name,
                    topic_name=part_topic,
                    schema=None if schema is None else schema.to_wire(),
                    producer_access_mode=wire.ProducerAccessMode.Name(int(access_mode)),
                    dispatch_strategy=None if strategy is None else strategy.to_wire(),
                ),
                self._retry,
                room,
                self._health_interval_s,
            )
            for part_topic, part_name in places
        ]
        return Producer(topic_producers, room)

    def consumer(
        self,
        topic: str,
        subscription: str,
        *,
        name: str,
        type: SubscriptionType = SubscriptionType.SHARED,  # noqa: A002 - the word of the domain
        initial_position: Start | None = None,
        reconnect: bool = False,
        acks_in_flight_max: int = ACKS_IN_FLIGHT_MAX,
    ) -> Consumer:
        """A consumer, to be opened by ``async with`` or ``await`` and then iterated.

        Args:
            topic: ``/namespace/topic``; if it is not there itself, its partitions are consumed.
            subscription: the subscription's name: each subscription gets every message.
            name: the consumer's name: the same name in the same subscription is the same consumer.
            type: how the consumers of the subscription share its messages, if the subscription is new.
            initial_position: where the subscription begins if it is new, which ``Consumer.created`` tells;
                else it goes on where it was. None is the oldest message, as in v0.2.
            reconnect: subscribes again by the same name when the stream ends, until the retries are used up.
            acks_in_flight_max: acknowledgements without an answer before ``post_ack`` waits.
        """

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
                    initial_position=initial_position,
                    reconnect=reconnect,
                )
                for part in parts
            ]

        return Consumer(resolve, acks_in_flight_max)

    async def partitions(self, topic: str) -> list[str]:
        """The topic itself if it exists, else its partitions.

        Raises:
            TopicNotFound: neither exists.
            CallError: the platform refuses, or did not become ready within the retries.
        """
        request = wire.TopicLookupRequest(topic=topic)
        response = await self._ask(lambda connection: connection.topic_partitions(request))
        if not response.partitions:
            raise TopicNotFound("NOT_FOUND", f"there is no topic {topic}")
        return list(response.partitions)

    async def schema(self, topic: str) -> Schema:
        """The schema of a topic or of its partitions.

        Raises:
            CallError: the platform refuses, or did not become ready within the retries.
        """
        request = wire.SchemaRequest(topic=topic)
        response = await self._ask(lambda connection: connection.get_schema(request))
        return Schema.from_wire(response.schema)

    async def open(self) -> Self:
        """Connects to the first address that answers.

        Raises:
            Unreachable: none does.
        """
        try:
            await self._connections.ready(self._connect_timeout_s)
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def close(self) -> None:
        """Closes the connections; producers and consumers should be closed before."""
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


def connect(
    *addresses: str,
    retry: Retry | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    call_timeout_s: float = CALL_TIMEOUT_S,
    health_interval_s: float = INTERVAL_S,
) -> Client:
    """A client, to be opened by ``async with`` or ``await``.

    Args:
        addresses: ``http://host:port`` of one or several gateways; any of them serves everything, so when
            one is lost the next takes its place.
        retry: how failures that pass are overcome, wherever that is done.
        connect_timeout_s: how long an address may take to accept the connection.
        call_timeout_s: how long one call may take.
        health_interval_s: the pause between questions whether a producer or consumer is still known.

    Raises:
        InvalidAddress: an address is none.
    """
    return Client(addresses, retry or Retry(), connect_timeout_s, call_timeout_s, health_interval_s)
