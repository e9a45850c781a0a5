"""Subscriptions that begin in the past, on the real platform: read from segments, then the log, then live."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from danube_client import (
    InvalidRequest,
    LimitReached,
    NonReliable,
    Reliable,
    Retention,
    Schema,
    Start,
    StartKind,
    Storage,
    SubscribeDenied,
    SubscriptionType,
    connect,
)
from danube_client.client import Client
from danube_client.consumer import Consumer
from danube_harness.platforms.admin_calls import ask_admin, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_platform_pb2 as wire

PATIENCE_S = 60.0
SETTINGS = {
    "DANUBE_ADMIN_BUNDLES_FILE": "1",
    "DANUBE_ADMIN_BUNDLES_MEMORY": "1",
    "DANUBE_STORAGE_SEAL_AGE_S": "1",
    "DANUBE_STORAGE_OWN_SEGMENT_BYTES_MIN": "2000",
}
DETAILS = "/danube_platform.TopicDetails"
KEPT = Reliable(Storage.DISK, segment_size_mib=1, retention=Retention.UNTIL_EXPIRED, retention_period_s=3600)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), environment=SETTINGS) as running:
        yield running


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    async with connect(f"http://{platform.gateway_addr}") as client:
        yield client


async def publish(client: Client, topic: str, numbers: range) -> None:
    async with client.producer(topic, schema=Schema.bytes(), strategy=KEPT) as producer:
        for number in numbers:
            await producer.post(f"{number}:".encode() + bytes(100))
        await producer.flush()


async def archive(platform: Platform, topic: str) -> None:
    """Everything published so far is in segments, and no longer in the log."""
    await until_described(
        [platform.admin_addr], topic, lambda told: told.log_first_sequence > told.log_last_sequence > 0
    )


async def take(consumer: Consumer, count: int, taken: list[int] | None = None) -> list[int]:
    """Numbers of messages, acknowledged, until there are ``count``; each counts once if it comes again."""
    taken = [] if taken is None else taken
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            message = await anext(consumer)
            number = int(message.payload.partition(b":")[0])
            if number not in taken:
                taken.append(number)
            await consumer.post_ack(message)
    return taken


async def subscribe_until_refused(client: Client, topic: str) -> None:
    """The owner hears of a policy a little later."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            consumer = client.consumer(topic, str(uuid4()), name="r", initial_position=Start.latest())
            await (await consumer).abort()


@pytest.mark.timeout(120)
async def test_a_replay_goes_from_segments_to_the_log_to_what_is_live_through_deaths(
    platform: Platform, client: Client
) -> None:
    topic = "/default/replayed"
    await publish(client, topic, range(200))
    await archive(platform, topic)
    await publish(client, topic, range(200, 210))  # shares a segment
    await archive(platform, topic)
    await publish(client, topic, range(210, 400))
    async with client.consumer(topic, "s", name="r", initial_position=Start.earliest()) as consumer:
        assert consumer.created
        taken: list[int] = []
        await take(consumer, 100, taken)
        await asyncio.to_thread(platform.kill, "storage")
        await publish(client, topic, range(400, 500))
        await take(consumer, 250, taken)
        await asyncio.to_thread(platform.kill, "topic-owner")
        await take(consumer, 500, taken)
        await publish(client, topic, range(500, 510))
        await take(consumer, 510, taken)
    assert taken == list(range(510))


async def test_a_subscription_begins_where_it_is_told_to(platform: Platform, client: Client) -> None:
    topic = "/default/begun"
    await publish(client, topic, range(50))
    await archive(platform, topic)
    between_ms = time.time_ns() // 1_000_000 + 1
    await asyncio.sleep(0.01)  # so that the next message is stored in a later millisecond
    await publish(client, topic, range(50, 60))
    names = map(str, itertools.count())

    async def begun(start: Start, count: int) -> list[int]:
        async with client.consumer(topic, next(names), name="r", initial_position=start) as consumer:
            return await take(consumer, count)

    assert await begun(Start.earliest(), 60) == list(range(60))
    assert await begun(Start.last(5), 5) == list(range(55, 60))
    assert await begun(Start.last(15), 15) == list(range(45, 60))
    assert await begun(Start(StartKind.TIME, between_ms), 10) == list(range(50, 60))
    assert await begun(Start(StartKind.TIME, 0), 60) == list(range(60))
    async with client.consumer(topic, next(names), name="r", initial_position=Start.latest()) as consumer:
        await publish(client, topic, range(60, 62))
        assert await take(consumer, 2) == [60, 61]


async def test_a_reset_subscription_gets_its_past_again(platform: Platform, client: Client) -> None:
    topic = "/default/reset"
    await publish(client, topic, range(20))
    async with client.consumer(topic, "s", name="r") as consumer:
        assert await take(consumer, 20) == list(range(20))
        await consumer.flush_acks()
        await until_described([platform.admin_addr], topic, lambda told: told.subscriptions[0].backlog == 0)
        start = wire.SubscriptionStart(kind=wire.SubscriptionStart.LAST, value=7)
        await ask_admin(
            [platform.admin_addr],
            f"{DETAILS}/ResetSubscription",
            wire.ResetSubscriptionRequest(topic=topic, subscription="s", start=start),
            wire.ResetSubscriptionResponse,
        )
        assert await take(consumer, 7) == list(range(13, 20))


async def test_a_subscription_that_cannot_be_made_says_why(platform: Platform, client: Client) -> None:
    topic = "/default/refusing"
    await publish(client, topic, range(3))
    latest = Start.latest()
    async with client.consumer(topic, "s", name="r", initial_position=Start.last(2)) as consumer:
        assert await take(consumer, 2) == [1, 2]
    async with client.consumer(topic, "s", name="r", initial_position=latest) as consumer:
        assert consumer.created is False
    exclusive = SubscriptionType.EXCLUSIVE
    with pytest.raises(SubscribeDenied, match="shared"):
        await client.consumer(topic, "s", name="r", type=exclusive, initial_position=latest)
    with pytest.raises(InvalidRequest, match="subscription"):
        await client.consumer(topic, "", name="r", initial_position=latest)
    async with client.producer("/default/fleeting", name="w", schema=Schema.bytes(), strategy=NonReliable()):
        with pytest.raises(InvalidRequest, match="keeps no messages"):
            await client.consumer("/default/fleeting", "s", name="r", initial_position=Start.last(1))
    await ask_admin(
        [platform.admin_addr],
        "/danube_platform.PolicyAdmin/SetTopicPolicies",
        wire.SetTopicPoliciesRequest(topic=topic, policies=wire.Policies(max_subscriptions_per_topic=1)),
        wire.PoliciesResponse,
    )
    with pytest.raises(LimitReached, match="max_subscriptions_per_topic"):
        await subscribe_until_refused(client, topic)
