"""Dispatch to failover subscriptions of reliable topics."""

from __future__ import annotations

import time

import pytest
from tests.conformance.client import FAILOVER, Client

pytestmark = pytest.mark.wires("calls", "streaming")

TAKE_OVER_S = 1.0
SLACK_S = 2.0


async def test_the_first_consumer_is_active_and_the_others_stand_by(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    active = await client.consume(topic, "sub", "a", FAILOVER)
    standby = await client.consume(topic, "sub", "b", FAILOVER)
    for number in range(10):
        await producer.send(f"{number}")
    assert [int(message.payload) for message in await active.take(10)] == list(range(10))
    assert await standby.silent_for(0.2)


async def test_a_standby_takes_over_within_a_second_in_order_from_the_first_unacknowledged(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    active = await other_client.consume(topic, "sub", "a", FAILOVER)
    standby = await client.consume(topic, "sub", "b", FAILOVER)
    for number in range(10):
        await producer.send(f"{number}")
    messages = await active.take(10)
    for message in messages[:4]:
        await client.ack(message, "sub")
    started = time.monotonic()
    await other_client.close()
    first = await standby.next()
    assert time.monotonic() - started < TAKE_OVER_S + SLACK_S
    assert [int(message.payload) for message in (first, *await standby.take(5))] == [4, 5, 6, 7, 8, 9]
    await producer.send("10")
    assert (await standby.next()).payload == b"10"


async def test_a_consumer_that_comes_back_does_not_disturb_the_new_active_one(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    first = await other_client.consume(topic, "sub", "a", FAILOVER)
    second = await client.consume(topic, "sub", "b", FAILOVER)
    await producer.send("0")
    await client.ack(await first.next(), "sub")
    await first.cancel()
    await producer.send("1")
    await client.ack(await second.next(), "sub")
    back = await other_client.consume(topic, "sub", "a", FAILOVER)
    for number in range(2, 8):
        await producer.send(f"{number}")
    received = [int(message.payload) for message in await second.take(6)]
    assert received == [2, 3, 4, 5, 6, 7]
    assert await back.silent_for(0.1)


async def test_take_over_goes_down_the_line(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumers = [await client.consume(topic, "sub", f"c{number}", FAILOVER) for number in range(4)]
    for number, consumer in enumerate(consumers):
        await producer.send(f"{number}")
        message = await consumer.next()
        assert message.payload == f"{number}".encode()
        await client.ack(message, "sub")
        await consumer.cancel()
