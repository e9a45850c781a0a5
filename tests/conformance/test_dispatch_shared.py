"""Dispatch to shared subscriptions of reliable topics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.conformance.client import SHARED, Client, Stream

from danube_harness.platforms.admin_calls import until_described
from danube_harness.platforms.standalone import Platform

pytestmark = pytest.mark.wires("calls", "streaming")


async def collect(consumers: list[Stream], count: int) -> list[list[Any]]:
    """``count`` messages in all, by the consumer that got them."""
    received: list[list[Any]] = [[] for _ in consumers]
    left = count
    done = asyncio.Event()

    async def read(index: int) -> None:
        nonlocal left
        while True:
            received[index].append(await consumers[index].next())
            left -= 1
            if left == 0:
                done.set()

    readers = [asyncio.ensure_future(read(index)) for index in range(len(consumers))]
    try:
        async with asyncio.timeout(20):
            await done.wait()
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return received


async def test_messages_go_round_three_consumers(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumers = [await client.consume(topic, "sub", f"c{number}", SHARED) for number in range(3)]
    for number in range(12):
        await producer.send(f"{number}")
    received = await collect(consumers, 12)
    assert sorted([int(message.payload) for message in share] for share in received) == [
        [0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8, 11],
    ]


async def test_a_backlog_is_shared_out_evenly(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    ids = [await client.subscribe(topic, "sub", f"c{number}", SHARED) for number in range(3)]
    consumers = [client.receive(consumer_id) for consumer_id in ids]
    for consumer in consumers:
        await consumer.opened()
    await asyncio.gather(*(client.call("SendMessage", producer.message(b"x")) for _ in range(90)))
    received = await collect(consumers, 90)
    assert [len(share) for share in received] == [30, 30, 30]
    seen = sorted(message.msg_id.sequence_id for share in received for message in share)
    assert seen == list(range(90))


async def test_what_a_lost_consumer_held_goes_to_the_others(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumers = [await client.consume(topic, "sub", f"c{number}", SHARED) for number in range(3)]
    for number in range(9):
        await producer.send(f"{number}")
    received = await collect(consumers, 9)
    for share in received[:2]:
        for message in share:
            await client.ack(message, "sub")
    await consumers[2].cancel()
    moved = await collect(consumers[:2], 3)
    again = sorted(message.payload for share in moved for message in share)
    assert again == sorted(message.payload for message in received[2])


async def test_a_consumer_that_does_not_acknowledge_does_not_hold_up_the_others(
    client: Client, platform: Platform, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    consumers = [await client.consume(topic, "sub", f"c{number}", SHARED) for number in range(2)]
    for _ in range(100):
        await producer.send(b"x")
    holding, acking = await collect(consumers, 100)
    for message in acking:
        await client.ack(message, "sub")
    # Acknowledgements gather on their way.
    await until_described([platform.admin_addr], topic, lambda told: told.subscriptions[0].backlog == 50)
    await producer.send_all([b"y", b"y"])
    # The next messages go to the consumer that has fewer unacknowledged ones.
    assert [(await consumers[1].next()).payload for _ in range(2)] == [b"y", b"y"]
    assert len(holding) == 50
