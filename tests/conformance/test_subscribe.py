"""Subscribe (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.client import (
    DEADLINE_S,
    EXCLUSIVE,
    FAILOVER,
    SERVICE_NOT_READY,
    SHARED,
    SUBSCRIBE_PERMISSION_DENIED,
    TOPIC_NOT_FOUND,
    Client,
    Refusal,
    Stream,
    consumer_request,
)

ID_MAX = (1 << 63) - 1
RETRY_INTERVAL_S = 0.05


async def admitted(client: Client, topic: str, subscription: str, consumer: str, kind: int) -> Stream:
    """Consume as soon as the place is free; a disconnect reaches the server when it does."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await client.consume(topic, subscription, consumer, kind)
            except Refusal as refusal:
                if refusal.code != "PERMISSION_DENIED":
                    raise
                await asyncio.sleep(RETRY_INTERVAL_S)


async def test_an_unknown_topic_is_refused_and_not_made(client: Client, topic: str) -> None:
    refusal = await client.refused("Subscribe", consumer_request(topic, "subscription"))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", TOPIC_NOT_FOUND)
    assert await client.partitions(topic) == []


async def test_the_base_name_of_partitions_is_no_topic(client: Client, topic: str) -> None:
    await client.producer(topic + "-part-0")
    refusal = await client.refused("Subscribe", consumer_request(topic, "subscription"))
    assert (refusal.code, refusal.error_type) == ("INVALID_ARGUMENT", TOPIC_NOT_FOUND)


async def test_the_answer_gives_back_name_and_request_id(client: Client, topic: str) -> None:
    await client.producer(topic)
    answer = await client.call("Subscribe", consumer_request(topic, "sub", "me", request_id=77))
    assert (answer.request_id, answer.consumer_name) == (77, "me")
    assert 1 <= answer.consumer_id <= ID_MAX


@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED, FAILOVER])
async def test_the_same_name_gets_the_same_id(
    client: Client, other_client: Client, topic: str, kind: int
) -> None:
    await client.producer(topic)
    first = await client.subscribe(topic, "sub", "me", kind)
    await client.receive(first).opened()
    assert await other_client.subscribe(topic, "sub", "me", kind) == first
    assert await client.subscribe(topic, "sub", "me", kind) == first


async def test_another_name_subscription_or_topic_gets_another_id(client: Client, topic: str) -> None:
    await client.producer(topic)
    await client.producer(topic + "x")
    found = {
        await client.subscribe(topic, "sub", "me", SHARED),
        await client.subscribe(topic, "sub", "you", SHARED),
        await client.subscribe(topic, "bus", "me", SHARED),
        await client.subscribe(topic + "x", "sub", "me", SHARED),
    }
    assert len(found) == 4


@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED, FAILOVER])
async def test_a_second_consumer_of_an_exclusive_subscription_is_refused_while_the_first_is_connected(
    client: Client, topic: str, kind: int
) -> None:
    producer = await client.producer(topic)
    first = await client.consume(topic, "sub", "first")
    refusal = await client.refused("Subscribe", consumer_request(topic, "sub", "second", kind))
    assert (refusal.code, refusal.error_type) == ("PERMISSION_DENIED", SUBSCRIBE_PERMISSION_DENIED)
    await producer.send("to the first")
    assert (await first.next()).payload == b"to the first"


async def test_an_exclusive_subscription_is_free_once_its_consumer_is_gone(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    first = await client.consume(topic, "sub", "first")
    await producer.send("one")
    await client.ack(await first.next(), "sub")
    await first.cancel()
    second = await admitted(other_client, topic, "sub", "second", EXCLUSIVE)
    await producer.send("two")
    assert (await second.next()).payload == b"two"


async def test_an_exclusive_subscription_is_free_once_its_connection_is_cut(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.producer(topic)
    await other_client.consume(topic, "sub", "first")
    await other_client.close()
    second = await admitted(client, topic, "sub", "second", EXCLUSIVE)
    await producer.send("to the second")
    assert (await second.next()).payload == b"to the second"


@pytest.mark.parametrize(
    ("held", "asked"),
    [(SHARED, EXCLUSIVE), (SHARED, FAILOVER), (FAILOVER, SHARED), (FAILOVER, EXCLUSIVE)],
)
async def test_a_consumer_of_another_type_is_refused(
    client: Client, topic: str, held: int, asked: int
) -> None:
    producer = await client.producer(topic)
    holder = await client.consume(topic, "sub", "holder", held)
    refusal = await client.refused("Subscribe", consumer_request(topic, "sub", "other", asked))
    assert (refusal.code, refusal.error_type) == ("PERMISSION_DENIED", SUBSCRIBE_PERMISSION_DENIED)
    await producer.send("unharmed")
    assert (await holder.next()).payload == b"unharmed"


@pytest.mark.parametrize("kind", [4, -1, 2**31 - 1])
async def test_a_type_that_does_not_exist_is_refused_and_leaves_nothing_behind(
    client: Client, topic: str, kind: int
) -> None:
    producer = await client.reliable_producer(topic)
    refusal = await client.refused("Subscribe", consumer_request(topic, "sub", "odd", kind))
    assert refusal.code == "PERMISSION_DENIED"
    assert refusal.error_type != SERVICE_NOT_READY
    consumer = await client.consume(topic, "sub", "even", FAILOVER)
    await producer.send("works")
    assert (await consumer.next()).payload == b"works"


async def test_racing_subscribers_of_an_exclusive_subscription_leave_one_winner(
    client: Client, topic: str
) -> None:
    await client.producer(topic)
    answers = await asyncio.gather(
        *(client.subscribe(topic, "sub", f"c{number}") for number in range(8)), return_exceptions=True
    )
    winners = [answer for answer in answers if isinstance(answer, int)]
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(winners) + len(refusals) == 8
    assert len(winners) == 1
    assert {refusal.code for refusal in refusals} == {"PERMISSION_DENIED"}
