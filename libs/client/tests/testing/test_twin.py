"""What a client does: in memory, on a real platform, and there without asyncio too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import cast
from uuid import uuid4

import pytest
from libs.client.tests.testing.blocking import Opening

from danube_client import (
    AccessMode,
    Client,
    Consumer,
    Denied,
    EndOfBacklog,
    Event,
    FailurePolicy,
    InvalidRequest,
    InvalidTopicName,
    NonReliable,
    Poison,
    ProducerExists,
    Schema,
    Start,
    SubscribeDenied,
    SubscriptionNotFound,
    SubscriptionType,
    Topic,
    TopicNotFound,
    connect,
    sync,
)
from danube_client.testing import MemoryPlatform

WAIT_S = 30.0
QUIET_S = 0.3
"""So long nothing is received where nothing may come."""


@pytest.fixture(
    params=[
        "memory",
        pytest.param("real", marks=pytest.mark.server),
        pytest.param("sync", marks=[pytest.mark.server, pytest.mark.acceptance]),
    ]
)
def another(request: pytest.FixtureRequest) -> Callable[[], Client]:
    """Returns a client of the platform, not open yet."""
    if request.param == "memory":
        memory: MemoryPlatform = request.getfixturevalue("danube_memory")
        return memory.client
    url: str = request.getfixturevalue("danube_url")
    if request.param == "sync":
        return lambda: cast("Client", Opening(lambda: sync.connect(url)))
    return lambda: connect(url)


@pytest.fixture
async def client(another: Callable[[], Client]) -> AsyncIterator[Client]:
    async with another() as client:
        yield client


@pytest.fixture
def topic() -> str:
    return f"/default/{uuid4().hex}"


async def publish(client: Client, topic: str, *payloads: str, key: str | None = None) -> list[int]:
    async with client.producer(topic) as producer:
        return [await producer.send(payload, key=key) for payload in payloads]


async def take(consumer: Consumer, count: int, *, ack: bool = True) -> list[str]:
    taken = []
    for _ in range(count):
        message = await consumer.receive(WAIT_S)
        taken.append(message.text)
        if ack:
            await message.ack()
    return taken


async def nothing_comes(consumer: Consumer) -> bool:
    return await consumer.receive_batch(timeout=QUIET_S) == []


async def test_a_message_arrives_with_key_attributes_and_position(client: Client, topic: str) -> None:
    async with client.producer(topic, name="shop") as producer:
        position = await producer.send({"item": "tea"}, {"table": "4"}, key="k")
    async with client.consumer(topic, "s") as consumer:
        assert consumer.created
        message = await consumer.receive(WAIT_S)
    assert (message.json(), message.key, message.producer_name) == ({"item": "tea"}, "k", "shop")
    assert (dict(message.attributes), message.topic) == ({"table": "4"}, topic)
    assert (message.position, message.redelivery_count) == (position, 0)


async def test_what_is_acknowledged_comes_to_no_later_consumer_and_the_rest_does(
    client: Client, topic: str
) -> None:
    await publish(client, topic, "0", "1", "2", "3")
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert await take(consumer, 2) == ["0", "1"]
        assert await take(consumer, 1, ack=False) == ["2"]
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert not consumer.created
        assert await take(consumer, 2) == ["2", "3"]
        assert await nothing_comes(consumer)


async def test_what_is_acknowledged_together_is_that_and_no_more(client: Client, topic: str) -> None:
    await publish(client, topic, *"01234")
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        messages = [await consumer.receive(WAIT_S) for _ in range(5)]
        await consumer.ack_all([])
        await consumer.ack_all(messages[:2])
        await consumer.ack_all([messages[4], messages[2]])
        await consumer.flush_acks()
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert await take(consumer, 1) == ["3"]
        assert await nothing_comes(consumer)


async def test_messages_of_several_topics_are_acknowledged_together(client: Client, topic: str) -> None:
    both = [f"{topic}a", f"{topic}b"]
    for one in both:
        await publish(client, one, "0", "1")
    async with client.consumer(both, "s") as consumer:
        messages = [await consumer.receive(WAIT_S) for _ in range(4)]
        await consumer.ack_all(messages)
    async with client.consumer(both, "s") as consumer:
        assert await nothing_comes(consumer)


async def test_messages_of_others_are_acknowledged_where_they_came_from_and_those_of_a_reader_nowhere(
    another: Callable[[], Client], client: Client, topic: str
) -> None:
    await publish(client, topic, "0", "1", "2")
    async with another() as second:
        async with client.consumer(topic, "ours") as consumer, client.reader(topic) as reader:
            mine, read = await consumer.receive(WAIT_S), await anext(reader)
            async with second.consumer(topic, "theirs") as other:
                theirs = [await other.receive(WAIT_S) for _ in range(2)]
                await consumer.ack_all([read, theirs[0], mine, theirs[1]])
                await other.flush_acks()
        for subscription, left in (("ours", ["1", "2"]), ("theirs", ["2"])):
            async with client.consumer(topic, subscription) as consumer:
                assert await take(consumer, len(left), ack=False) == left
                assert await nothing_comes(consumer)


async def test_a_cumulative_acknowledgement_covers_all_before(client: Client, topic: str) -> None:
    await publish(client, topic, "0", "1", "2")
    async with client.consumer(topic, "s", type=SubscriptionType.FAILOVER) as consumer:
        messages = [await consumer.receive(WAIT_S) for _ in range(3)]
        await messages[1].ack_cumulative()
    async with client.consumer(topic, "s", type=SubscriptionType.FAILOVER) as consumer:
        assert await take(consumer, 1) == ["2"]


async def test_every_subscription_gets_every_message(client: Client, topic: str) -> None:
    await publish(client, topic, "0", "1")
    for subscription in ("a", "b"):
        async with client.consumer(topic, subscription) as consumer:
            assert await take(consumer, 2) == ["0", "1"]


async def test_an_exclusive_subscription_refuses_a_second_consumer(client: Client, topic: str) -> None:
    await publish(client, topic, "0")
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE):
        with pytest.raises(SubscribeDenied):
            await client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE)


async def test_a_consumer_that_stands_by_goes_on_when_the_active_one_leaves(
    client: Client, topic: str
) -> None:
    await publish(client, topic, "0", "1")
    active = await client.consumer(topic, "s", name="a", type=SubscriptionType.FAILOVER)
    assert await take(active, 1) == ["0"]
    async with client.consumer(topic, "s", name="b", type=SubscriptionType.FAILOVER) as standby:
        assert await nothing_comes(standby)
        await active.close()
        assert await take(standby, 1) == ["1"]


async def test_a_shared_subscription_gives_each_message_to_one_consumer(client: Client, topic: str) -> None:
    await publish(client, topic, *map(str, range(20)))
    received: list[int] = []
    async with client.consumer(topic, "s") as one, client.consumer(topic, "s") as other:
        async with asyncio.timeout(WAIT_S):
            while len(received) < 20:
                for consumer in (one, other):
                    received += [int(each.text) for each in await consumer.receive_batch(timeout=0.05)]
        assert await nothing_comes(one)
        assert await nothing_comes(other)
    assert sorted(received) == list(range(20))


async def test_messages_of_a_key_go_to_one_consumer_in_order(client: Client, topic: str) -> None:
    async with client.producer(topic) as producer:
        kind = SubscriptionType.KEY_SHARED
        async with (
            client.consumer(topic, "s", type=kind) as one,
            client.consumer(topic, "s", type=kind) as other,
        ):
            for number in range(40):
                await producer.send(str(number), key=f"k{number % 8}")
            received: dict[str, list[tuple[str, int]]] = {}

            async def drain(name: str, consumer: Consumer) -> None:
                async for message in consumer:
                    received.setdefault(message.key or "", []).append((name, int(message.text)))
                    await message.ack()
                    if sum(map(len, received.values())) == 40:
                        done.set()

            done = asyncio.Event()
            tasks = [asyncio.create_task(drain("one", one)), asyncio.create_task(drain("other", other))]
            async with asyncio.timeout(WAIT_S):
                await done.wait()
            for task in tasks:
                task.cancel()
    assert len(received) == 8
    for messages in received.values():
        assert [number for _, number in messages] == sorted(number for _, number in messages)


async def test_a_message_that_was_given_back_comes_again_later_with_its_count(
    client: Client, topic: str
) -> None:
    await publish(client, topic, "0")
    async with client.consumer(topic, "s") as consumer:
        first = await consumer.receive(WAIT_S)
        clock = asyncio.get_running_loop().time
        since = clock()
        await first.nack(delay=0.4)
        again = await consumer.receive(WAIT_S)
        assert clock() - since > 0.3
        assert (again.text, again.position, again.redelivery_count) == ("0", first.position, 1)
        await again.ack()


AT_ONCE = FailurePolicy(max_redelivery_count=1, base_redelivery_delay_s=0)


async def test_what_fails_too_often_becomes_a_dead_letter_and_the_rest_goes_on(
    client: Client, topic: str
) -> None:
    await publish(client, topic, "bad", "good", key="k")
    await client.create_subscription(topic, "s")
    policy = replace(AT_ONCE, dead_letter_topic=f"{topic}_dead", poison=None)
    await client.set_failure_policy(topic, "s", policy)
    assert await client.failure_policy(topic, "s") == replace(policy, poison=Poison.DEAD_LETTER)
    refusals = []
    async with client.consumer(topic, "s") as consumer:
        for _ in range(3):
            message = await consumer.receive(WAIT_S)
            if message.text == "bad":
                refusals.append(message.redelivery_count)
                await message.nack(reason="on purpose")
            else:
                await message.ack()
        async with client.consumer(f"{topic}_dead", "dead", await_topics=True) as dead:
            letter = await dead.receive(WAIT_S)
        assert await nothing_comes(consumer)
    assert (letter.text, letter.key, refusals) == ("bad", "k", [0, 1])
    said = {
        "x-original-topic": topic,
        "x-original-subscription": "s",
        "x-delivery-attempt": "2",
        "x-failure-reason": "on purpose",
    }
    assert said.items() <= dict(letter.attributes).items()


@pytest.mark.parametrize(
    ("type_", "behind"),
    [
        (SubscriptionType.SHARED, ["1", "2"]),
        (SubscriptionType.KEY_SHARED, ["2"]),
        (SubscriptionType.EXCLUSIVE, []),
    ],
)
async def test_poison_blocks_what_must_keep_its_order_until_the_policy_drops_it(
    client: Client, topic: str, type_: SubscriptionType, behind: list[str]
) -> None:
    await client.producer(topic)
    await client.create_subscription(topic, "s", type=type_)
    await client.set_failure_policy(topic, "s", replace(AT_ONCE, max_redelivery_count=0))
    async with client.consumer(topic, "s", type=type_, prefetch=1) as consumer:
        await publish(client, topic, "0", "1", key="k")
        await publish(client, topic, "2", key="other")
        await (await consumer.receive(WAIT_S)).nack()
        assert await take(consumer, len(behind)) == behind
        assert await nothing_comes(consumer)
        await client.set_failure_policy(
            topic, "s", replace(AT_ONCE, max_redelivery_count=0, poison=Poison.DROP)
        )
        rest = [text for text in ("1", "2") if text not in behind]
        assert await take(consumer, len(rest)) == rest
        assert await nothing_comes(consumer)


async def test_a_failure_policy_belongs_to_a_subscription_of_a_reliable_topic(
    client: Client, topic: str
) -> None:
    with pytest.raises(TopicNotFound):
        await client.set_failure_policy(topic, "s", FailurePolicy())
    await client.producer(topic, partitions=2)
    with pytest.raises(SubscriptionNotFound):
        await client.set_failure_policy(topic, "s", FailurePolicy())
    with pytest.raises(SubscriptionNotFound):
        await client.failure_policy(topic, "s")
    await client.create_subscription(topic, "s")
    assert await client.failure_policy(topic, "s") == FailurePolicy()
    for wrong in (FailurePolicy(poison=Poison.DEAD_LETTER), FailurePolicy(dead_letter_topic=topic)):
        with pytest.raises(InvalidRequest):
            await client.set_failure_policy(topic, "s", wrong)
    await client.set_failure_policy(topic, "s", AT_ONCE)
    for part in (topic, f"{topic}-part-0", f"{topic}-part-1"):
        assert await client.failure_policy(part, "s") == AT_ONCE
    await client.producer(f"{topic}_2", strategy=NonReliable())
    async with client.consumer(f"{topic}_2", "s"):
        with pytest.raises(Denied):
            await client.failure_policy(f"{topic}_2", "s")


async def test_a_seek_moves_the_cursor_back_and_forth(client: Client, topic: str) -> None:
    positions = await publish(client, topic, "0", "1", "2")
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert await take(consumer, 3) == ["0", "1", "2"]
        await consumer.seek(Start.at(positions[1]), topic)
        assert await take(consumer, 2) == ["1", "2"]
        await consumer.seek(Start.earliest())
        assert await take(consumer, 1) == ["0"]
        await consumer.seek(Start.latest())
        assert await nothing_comes(consumer)


@pytest.mark.parametrize(
    ("start", "expected"), [(Start.last(2), ["1", "2"]), (Start.earliest(), ["0", "1", "2"])]
)
async def test_a_new_subscription_begins_where_it_is_told(
    client: Client, topic: str, start: Start, expected: list[str]
) -> None:
    await publish(client, topic, "0", "1", "2")
    async with client.consumer(topic, "s", initial_position=start) as consumer:
        assert await take(consumer, len(expected)) == expected


async def test_a_paused_consumer_gets_nothing_until_it_goes_on(client: Client, topic: str) -> None:
    await publish(client, topic, "0")
    async with client.consumer(topic, "s") as consumer:
        assert await take(consumer, 1) == ["0"]
        await consumer.pause()
        await consumer.flush_acks()  # behind the pause on the same stream
        await publish(client, topic, "1")
        assert await nothing_comes(consumer)
        await consumer.resume()
        assert await take(consumer, 1) == ["1"]


async def test_prefetch_bounds_what_is_unacknowledged(client: Client, topic: str) -> None:
    await publish(client, topic, "0", "1", "2")
    async with client.consumer(topic, "s", prefetch=1) as consumer:
        message = await consumer.receive(WAIT_S)
        assert await nothing_comes(consumer)
        await message.ack()
        assert await take(consumer, 2) == ["1", "2"]


async def test_keys_choose_partitions_and_a_consumer_takes_all_of_them(client: Client, topic: str) -> None:
    async with client.producer(topic, partitions=3) as producer:
        assert producer.topics == [f"{topic}-part-{number}" for number in range(3)]
        for number in range(12):
            await producer.send(str(number), key=f"k{number % 4}")
    assert await client.topics(topic) == [Topic(topic, 3, reliable=True)]
    where: dict[str, set[str]] = {}
    async with client.consumer(topic, "s") as consumer:
        for _ in range(12):
            message = await consumer.receive(WAIT_S)
            where.setdefault(message.key or "", set()).add(message.topic)
            await message.ack()
    assert all(len(topics) == 1 for topics in where.values())
    with pytest.raises(InvalidRequest):
        await client.producer(topic, partitions=2)


async def test_a_reader_reads_what_is_there_and_moves_no_cursor(client: Client, topic: str) -> None:
    positions = await publish(client, topic, "0", "1", "2")
    async with client.reader(topic) as reader:
        assert [message.text async for message in reader] == ["0", "1", "2"]
    async with client.reader(topic, start=Start.at(positions[1]), end_position=positions[1]) as reader:
        assert [message.text async for message in reader] == ["1"]
    async with client.consumer(topic, "s") as consumer:
        assert await take(consumer, 3) == ["0", "1", "2"]


async def test_a_following_reader_gets_what_is_published_later(client: Client, topic: str) -> None:
    await publish(client, topic, "0")
    async with client.reader(topic, follow=True) as reader, asyncio.timeout(WAIT_S):
        assert (await anext(reader)).text == "0"
        await publish(client, topic, "1")
        assert (await anext(reader)).text == "1"


async def test_a_non_reliable_topic_keeps_nothing(client: Client, topic: str) -> None:
    async with client.producer(topic, strategy=NonReliable()) as producer:
        assert await producer.send("unheard") == 0
        async with client.consumer(topic, "s") as consumer:
            await producer.send("heard")
            message = await consumer.receive(WAIT_S)
    assert (message.text, message.position) == ("heard", 0)


async def test_a_payload_that_does_not_fit_is_refused_and_the_others_are_stored(
    client: Client, topic: str
) -> None:
    async with client.producer(topic, schema=Schema.int64()) as producer:
        outcomes = [await producer.post(payload) for payload in (1, "two", 3)]
        results = await asyncio.gather(*outcomes, return_exceptions=True)
    assert isinstance(results[1], InvalidRequest)
    async with client.reader(topic) as reader:
        assert [message.int64() async for message in reader] == [1, 3]


async def test_an_exclusive_producer_is_alone(client: Client, topic: str) -> None:
    async with client.producer(topic, access_mode=AccessMode.EXCLUSIVE):
        with pytest.raises(ProducerExists):
            await client.producer(topic)


async def test_what_does_not_exist_is_not_found(client: Client, topic: str) -> None:
    for opening in (client.consumer(topic, "s"), client.reader(topic)):
        with pytest.raises(TopicNotFound):
            await opening
    with pytest.raises(InvalidTopicName):
        await client.producer("no topic")


async def test_a_pattern_takes_topics_that_are_created_later(client: Client, topic: str) -> None:
    await publish(client, f"{topic}-a", "0")
    async with client.consumer(f"{topic}-*", "s") as consumer:
        assert await take(consumer, 1) == ["0"]
        await publish(client, f"{topic}-b", "1")
        assert await take(consumer, 1) == ["1"]


async def test_the_end_of_the_backlog_is_told(client: Client, topic: str) -> None:
    await publish(client, topic, "0")
    events: asyncio.Queue[Event] = asyncio.Queue()
    async with client.consumer(topic, "s", on_event=events.put_nowait) as consumer:
        assert await take(consumer, 1) == ["0"]
        async with asyncio.timeout(WAIT_S):
            while await events.get() != EndOfBacklog(topic):
                pass


async def test_a_client_that_is_closed_sends_and_acknowledges_what_was_left_to_it(
    client: Client, topic: str, another: Callable[[], Client]
) -> None:
    async with another() as leaving:
        producer = await leaving.producer(topic)
        for number in range(100):
            await producer.post(str(number))
    assert producer.closed
    async with another() as leaving:
        consumer = await leaving.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE)
        assert await take(consumer, 60) == [str(number) for number in range(60)]
    async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert await take(consumer, 40) == [str(number) for number in range(60, 100)]


async def test_a_batch_is_what_is_here(client: Client, topic: str) -> None:
    await publish(client, topic, "0", "1", "2")
    async with client.consumer(topic, "s") as consumer:
        received = [message.text for message in await consumer.receive_batch(2, WAIT_S)]
        while len(received) < 3:
            received += [message.text for message in await consumer.receive_batch(2, WAIT_S)]
    assert received == ["0", "1", "2"]


async def test_a_seek_that_cannot_be_is_refused(client: Client, topic: str) -> None:
    async with (
        client.producer(topic, strategy=NonReliable()),
        client.consumer(topic, "s") as consumer,
    ):
        with pytest.raises(InvalidRequest):
            await consumer.seek(Start.earliest())


async def test_models_travel_by_a_codec(client: Client, topic: str) -> None:
    async with client.producer(topic, codec=Order) as producer:
        await producer.send(Order("tea", 2))
    async with client.consumer(topic, "s", codec=Order) as consumer:
        assert (await consumer.receive(WAIT_S)).value == Order("tea", 2)


async def test_the_client_describes_topics(client: Client, topic: str) -> None:
    async with client.producer(topic, schema=Schema.string()):
        assert await client.create_subscription(topic, "s")
        assert not await client.create_subscription(topic, "s")
        (info,) = await client.describe(topic)
        assert (info.topic, info.reliable, info.subscriptions) == (topic, True, 1)
        assert (await client.schema(topic)).type is Schema.string().type


@dataclass
class Order:
    item: str
    count: int
