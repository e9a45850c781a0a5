"""Dispatch of reliable topics."""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.client import (
    DISK,
    EXCLUSIVE,
    FAILOVER,
    IN_MEMORY,
    RETAIN_UNTIL_ACK,
    RETAIN_UNTIL_EXPIRE,
    SHARED,
    Client,
    Producer,
)

pytestmark = pytest.mark.wires("calls", "streaming")

WINDOW = 1000
BATCH = 64


async def publish(producer: Producer, client: Client, count: int) -> None:
    """``count`` messages that carry their number, in order, several calls in flight together."""
    messages = [producer.message(f"{number}") for number in range(count)]
    for start in range(0, count, BATCH):
        await asyncio.gather(
            *(client.call("SendMessage", message) for message in messages[start : start + BATCH])
        )


def numbers(messages: list[object]) -> list[int]:
    return [int(message.payload) for message in messages]  # type: ignore[attr-defined]


@pytest.mark.parametrize("storage", [IN_MEMORY, DISK])
@pytest.mark.parametrize("retention", [RETAIN_UNTIL_ACK, RETAIN_UNTIL_EXPIRE])
@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED])
async def test_large_messages_arrive_whole_and_in_order(
    client: Client, topic: str, storage: int, retention: int, kind: int
) -> None:
    producer = await client.reliable_producer(
        topic, segment_size=5, storage_backend=storage, retention_policy=retention
    )
    consumer = await client.consume(topic, "reliable_subscription", kind=kind)
    blob = bytes(range(256)) * 400
    for number in range(20):
        await producer.send(number.to_bytes() + blob)
    for number in range(20):
        message = await consumer.next()
        assert message.payload == number.to_bytes() + blob
        await client.ack(message, "reliable_subscription")


@pytest.mark.parametrize("storage", [IN_MEMORY, DISK])
async def test_a_new_subscription_starts_at_the_oldest_message(
    client: Client, topic: str, storage: int
) -> None:
    producer = await client.reliable_producer(topic, storage_backend=storage)
    await publish(producer, client, 50)
    consumer = await client.consume(topic, "late")
    assert numbers(await consumer.take(50)) == list(range(50))
    await producer.send("50")
    assert numbers(await consumer.take(1)) == [50]


async def test_every_subscription_has_its_own_cursor(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    await publish(producer, client, 10)
    first = await client.consume(topic, "first")
    for message in await first.take(10):
        await client.ack(message, "first")
    second = await client.consume(topic, "second")
    assert numbers(await second.take(10)) == list(range(10))
    assert await first.silent_for(0.1)


@pytest.mark.wires("calls")
async def test_at_most_a_window_of_messages_is_unacknowledged(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    await publish(producer, client, WINDOW + 10)
    holding = await client.consume(topic, "holding")
    held = await holding.take(WINDOW)
    assert numbers(held) == list(range(WINDOW))
    # That another subscription gets the first message past the window shows that it could be sent.
    acking = await client.consume(topic, "acking")
    for message in await acking.take(20):
        await client.ack(message, "acking")
    await acking.take(WINDOW - 10)
    assert await holding.silent_for(0.3)
    await client.ack(held[500], "holding")
    assert numbers(await holding.take(1)) == [WINDOW]
    assert await holding.silent_for(0.1)
    await client.ack(held[0], "holding")
    await client.ack(held[1], "holding")
    assert numbers(await holding.take(2)) == [WINDOW + 1, WINDOW + 2]


async def test_a_consumer_that_acknowledges_late_sees_no_duplicate(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    await publish(producer, client, 5)
    consumer = await client.consume(topic, "sub")
    messages = await consumer.take(5)
    assert await consumer.silent_for(1.0)
    for message in messages:
        await client.ack(message, "sub")
    await producer.send("5")
    assert numbers(await consumer.take(1)) == [5]


@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED, FAILOVER])
async def test_what_was_not_acknowledged_comes_again_after_the_stream_ended(
    client: Client, other_client: Client, topic: str, kind: int
) -> None:
    producer = await client.reliable_producer(topic)
    await publish(producer, client, 10)
    first = await client.consume(topic, "sub", "me", kind)
    messages = await first.take(10)
    for number in (0, 1, 4, 9):
        await client.ack(messages[number], "sub")
    await first.cancel()
    second = await other_client.consume(topic, "sub", "me", kind)
    again = await second.take(6)
    assert numbers(again) == [2, 3, 5, 6, 7, 8]
    originals = {message.msg_id.sequence_id: message for message in messages}
    assert all(message.msg_id == originals[message.msg_id.sequence_id].msg_id for message in again)
    await producer.send("10")
    assert numbers(await second.take(1)) == [10]


async def test_a_cursor_outlives_its_consumers(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    await publish(producer, client, 5)
    first = await client.consume(topic, "sub", "me")
    for message in await first.take(3):
        await client.ack(message, "sub")
    await first.cancel()
    await producer.send_all(["5", "6"])
    second = await client.consume(topic, "sub", "me")
    assert numbers(await second.take(4)) == [3, 4, 5, 6]


async def test_a_subscription_without_a_stream_keeps_its_messages(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    await publish(producer, client, 100)
    assert numbers(await client.receive(consumer_id).take(100)) == list(range(100))


async def test_messages_of_a_restarted_producer_with_the_same_numbers_are_all_delivered(
    client: Client, topic: str
) -> None:
    await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    for life in range(3):
        producer = await client.reliable_producer(topic)
        for number in range(3):
            await producer.send(f"{life * 3 + number}")
    messages = await consumer.take(9)
    assert numbers(messages) == list(range(9))
    assert [message.msg_id.sequence_id for message in messages] == [0, 1, 2] * 3
    for message in messages[:8]:
        await client.ack(message, "sub")
    again = client.receive(await client.subscribe(topic, "sub"))
    assert numbers(await again.take(1)) == [8]


async def test_the_order_of_each_producer_is_kept(client: Client, topic: str) -> None:
    producers = [await client.reliable_producer(topic, f"p{number}") for number in range(4)]
    consumer = await client.consume(topic, "sub")
    await asyncio.gather(*(producer.send_all([b"x"] * 50) for producer in producers))
    received: dict[str, list[int]] = {producer.name: [] for producer in producers}
    for message in await consumer.take(200):
        received[message.producer_name].append(message.msg_id.sequence_id)
    assert received == {producer.name: list(range(50)) for producer in producers}


async def test_calls_in_flight_together_keep_the_order_they_were_made_in(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await publish(producer, client, 1000)
    assert numbers(await consumer.take(1000)) == list(range(1000))


@pytest.mark.wires("calls")
async def test_numbers_that_leap_repeat_or_begin_anew_hold_nothing_up(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    sequence = [*range(20), 1000, 7, 7, 7, 0, 0, 1, 2, 1 << 40, (1 << 64) - 1, 5000, *range(20), 19, 18, 17]
    for index, number in enumerate(sequence):
        message = producer.message(f"{index}")
        message.msg_id.sequence_id = number
        answer = await client.call("SendMessage", message)
        assert answer.sequence_id == number
    messages = await consumer.take(len(sequence))
    assert numbers(messages) == list(range(len(sequence)))
    assert [message.msg_id.sequence_id for message in messages] == sequence


async def test_a_consumer_that_does_not_read_blocks_nobody_and_loses_nothing(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stuck = await other_client.consume(topic, "stuck")
    reader = await client.consume(topic, "reader")
    for number in range(100):
        await producer.send(bytes(64 * 1024))
        message = await reader.next()
        assert message.msg_id.sequence_id == number
        await client.ack(message, "reader")
    assert [message.msg_id.sequence_id for message in await stuck.take(100)] == list(range(100))
