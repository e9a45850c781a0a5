"""Opens producers and consumers by the calls of v0.2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from danube_client.connection import Connections
from danube_client.errors import InvalidRequest
from danube_client.retry import Retry
from danube_client.start import StartKind
from danube_client.v0_2.consumer import Consumer
from danube_client.v0_2.producer import Producer
from danube_client.v0_2.topic_consumer import ConsumerOptions, TopicConsumer
from danube_client.v0_2.topic_producer import TopicProducer
from danube_proto import danube_api_pb2 as wire

# How long a producer waits for partitions that another one may be creating.
PARTITION_CHECKS_MAX = 10
PARTITION_CHECK_S = 0.1

FindTopics = Callable[[str], Awaitable[list[str]]]
"""Returns a topic itself if it exists, or the names of its partitions, or nothing."""


async def open_producer(
    connections: Connections,
    find: FindTopics,
    request: wire.ProducerRequest,
    retry: Retry,
    health_interval_s: float,
    *,
    partitions: int | None,
    in_flight_max: int,
    recreate: bool,
) -> Producer:
    """Open a producer on the topic or the partitions that ``request`` names. Raises CallError."""
    topic, name = request.topic_name, request.producer_name
    room = asyncio.Semaphore(in_flight_max)

    async def resolve() -> Sequence[TopicProducer]:
        producers = []
        for target in await targets(find, topic, partitions):
            own = wire.ProducerRequest()
            own.CopyFrom(request)
            own.topic_name = target
            own.producer_name = name if target == topic else f"{name}-{target.rpartition('-')[2]}"
            producers.append(
                TopicProducer(connections, own, retry, room, health_interval_s, recreate=recreate)
            )
        return producers

    return await Producer(name, resolve, room)


async def open_consumer(
    connections: Connections,
    existing: FindTopics,
    request: wire.ConsumerRequest,
    retry: Retry,
    health_interval_s: float,
    options: ConsumerOptions,
    acks_in_flight_max: int,
) -> Consumer:
    """Open a consumer of the topic or the partitions that ``request`` names. Raises CallError."""
    topic = request.topic_name

    async def resolve() -> Sequence[TopicConsumer]:
        parts = await existing(topic)
        start = options.initial_position
        if len(parts) > 1 and start is not None and start.kind is StartKind.POSITION:
            raise InvalidRequest(
                "INVALID_ARGUMENT",
                f"a position belongs to one topic, and {topic} has {len(parts)} partitions",
            )
        consumers = []
        for part in parts:
            own = wire.ConsumerRequest()
            own.CopyFrom(request)
            own.topic_name = part
            consumers.append(TopicConsumer(connections, own, retry, health_interval_s, options))
        return consumers

    return await Consumer(request.consumer_name, resolve, acks_in_flight_max, options.prefetch)


async def targets(find: FindTopics, topic: str, partitions: int | None) -> list[str]:
    """Return the topics that a producer sends to.

    Raises:
        InvalidRequest: ``partitions`` is given, and the topic exists with another number of them.
    """
    existing = await find(topic)
    if partitions is None:
        return existing or [topic]
    wanted = [f"{topic}-part-{part}" for part in range(partitions)]
    for _ in range(PARTITION_CHECKS_MAX):
        if not existing or not set(existing) < set(wanted):
            break
        # Perhaps another producer is creating them at this moment.
        await asyncio.sleep(PARTITION_CHECK_S)
        existing = await find(topic)
    if existing and set(existing) != set(wanted):
        what = "is not partitioned" if existing == [topic] else f"has {_counted(len(existing))}"
        raise InvalidRequest("INVALID_ARGUMENT", f"topic {topic} {what}, not {_counted(partitions)}")
    return wanted


def _counted(partitions: int) -> str:
    return f"{partitions} partition{'' if partitions == 1 else 's'}"
