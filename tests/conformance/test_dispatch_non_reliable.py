"""Dispatch of non-reliable topics."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.client import BYTES, EXCLUSIVE, FAILOVER, SHARED, Client, Producer
from tests.conformance.stubs import danube

pytestmark = pytest.mark.wires("calls", "streaming", acceptance="streaming")

BLOCK = bytes(16 * 1024)
EACH = 625


async def bytes_producer(client: Client, topic: str) -> Producer:
    return await client.producer(topic, schema=danube.Schema(name="bytes", type_schema=BYTES))


@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED, FAILOVER])
async def test_a_message_reaches_the_consumer(client: Client, topic: str, kind: int) -> None:
    producer = await client.producer(topic)
    consumer = await client.consume(topic, "sub", kind=kind)
    await producer.send("hello")
    assert (await consumer.next()).payload == b"hello"


async def test_every_subscription_gets_every_message(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumers = [
        await client.consume(topic, f"sub{kind}", kind=kind) for kind in (EXCLUSIVE, SHARED, FAILOVER)
    ]
    for number in range(20):
        await producer.send(f"{number}")
    for consumer in consumers:
        assert [int(message.payload) for message in await consumer.take(20)] == list(range(20))


async def test_a_later_subscriber_sees_only_what_comes_later(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    early = await client.consume(topic, "early")
    await producer.send("before")
    late = await client.consume(topic, "late")
    await producer.send("after")
    assert [message.payload for message in await early.take(2)] == [b"before", b"after"]
    assert (await late.next()).payload == b"after"


async def test_nothing_is_kept_while_no_consumer_is_connected(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    first = client.receive(consumer_id)
    await first.opened()
    await first.cancel()
    other = await client.consume(topic, "other")
    # The other subscription shows when the owner has handled what follows.
    await producer.send_all(["lost"] * 3)
    await other.take(3)
    second = client.receive(consumer_id)
    await second.opened()
    await producer.send("received")
    payloads = {(await second.next()).payload}
    assert payloads == {b"received"}


async def test_a_consumer_that_never_opened_its_stream_blocks_nobody(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    await client.subscribe(topic, "silent")
    reader = await client.consume(topic, "reader")
    for number in range(100):
        await producer.send(f"{number}")
    assert [int(message.payload) for message in await reader.take(100)] == list(range(100))


async def test_a_consumer_that_does_not_read_blocks_no_producer_subscription_or_topic(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await bytes_producer(client, topic)
    neighbour = await client.producer(topic + "_neighbour")
    neighbours_consumer = await client.consume(topic + "_neighbour", "sub")
    await other_client.consume(topic, "stuck")
    reader = await client.consume(topic, "reader")
    for number in range(400):
        await producer.send(BLOCK)
        assert (await reader.next()).msg_id.sequence_id == number
        if number % 100 == 99:
            await neighbour.send(f"{number}")
            assert (await neighbours_consumer.next()).payload == f"{number}".encode()


async def test_a_consumer_that_falls_behind_loses_messages_but_no_order(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await bytes_producer(client, topic)
    slow = await other_client.consume(topic, "slow")
    for _ in range(600):
        await producer.send(BLOCK)
    last = producer.message(b"last")
    received: list[int] = []
    # The slow one reads now; what is dropped is dropped, so the last message is repeated until it fits.
    while not received or received[-1] < last.msg_id.sequence_id:
        await client.call("SendMessage", last)
        received.append((await slow.next()).msg_id.sequence_id)
    received = [number for number in received if number < last.msg_id.sequence_id]
    assert received == sorted(set(received))


@pytest.mark.acceptance
async def test_a_consumer_that_acknowledges_each_message_loses_nothing_of_eight_producers(
    client: Client, topic: str
) -> None:
    schema = danube.Schema(name="bytes", type_schema=BYTES)
    producers = [await client.producer(topic, f"p{number}", schema=schema) for number in range(8)]
    consumer = await client.consume(topic, "sub")
    # The slowest case of such a consumer: it takes nothing until everything is sent.
    await asyncio.gather(*(producer.send_all([bytes(1024)] * EACH) for producer in producers))
    for _ in range(8 * EACH):
        await client.ack(await consumer.next(), "sub")


async def test_a_shared_subscription_hands_messages_round(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumers = [await client.consume(topic, "sub", f"c{number}", SHARED) for number in range(3)]
    for number in range(9):
        await producer.send(f"{number}")
    received = [sorted(int(message.payload) for message in await consumer.take(3)) for consumer in consumers]
    assert sorted(received) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


async def test_only_the_active_consumer_of_a_failover_subscription_receives(
    client: Client, topic: str
) -> None:
    producer = await client.producer(topic)
    active = await client.consume(topic, "sub", "a", FAILOVER)
    standby = await client.consume(topic, "sub", "b", FAILOVER)
    await producer.send_all([f"{number}" for number in range(10)])
    assert [int(message.payload) for message in await active.take(10)] == list(range(10))
    assert await standby.silent_for(0.1)
    await active.cancel()
    # Take-over takes as long as the disconnect needs to be noticed; until then messages are lost.
    while await standby.silent_for(0.05):
        await producer.send("next")


async def test_acknowledging_is_accepted_and_ignored(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    consumer = await client.consume(topic, "sub")
    for number in range(3):
        await producer.send(f"{number}")
        message = await consumer.next()
        assert message.payload == f"{number}".encode()
        await client.ack(message, "sub")
