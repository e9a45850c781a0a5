"""Ack (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import pytest
from tests.conformance.client import FAILOVER, SERVICE_NOT_READY, SHARED, Admin, Client
from tests.conformance.stubs import danube


async def test_the_answer_gives_back_the_request_id(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send("x")
    await client.ack(await consumer.next(), "sub")  # checks it


@pytest.mark.wires("calls", "streaming")
async def test_an_acknowledged_message_does_not_come_again(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    await producer.send_all(["0", "1", "2"])
    consumer_id = await client.subscribe(topic, "sub")
    first = client.receive(consumer_id)
    for message in await first.take(2):
        await client.ack(message, "sub")
    await first.cancel()
    assert (await client.receive(consumer_id).next()).payload == b"2"


@pytest.mark.wires("calls", "streaming")
async def test_what_was_acknowledged_before_a_stream_closed_does_not_come_to_the_next_one(
    client: Client, topic: str
) -> None:
    """Acknowledge, close and consume again at once, time and again."""
    producer = await client.reliable_producer(topic)
    await producer.send_all([str(number) for number in range(60)])
    for first in range(0, 60, 3):
        consumer_id = await client.subscribe(topic, "sub", f"consumer_{first % 2}", FAILOVER)
        stream = client.receive(consumer_id)
        for message in await stream.take(3):
            assert int(message.payload) in range(first, first + 3)
            await client.ack(message, "sub")
        await stream.cancel()


@pytest.mark.wires("calls", "streaming")
async def test_an_acknowledgement_counts_for_its_subscription_only(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    first = await client.consume(topic, "first")
    second_id = await client.subscribe(topic, "second")
    second = client.receive(second_id)
    await second.opened()
    await producer.send("x")
    await client.ack(await first.next(), "first")
    await second.next()
    await second.cancel()
    assert (await client.receive(second_id).next()).payload == b"x"


async def test_any_gateway_takes_the_acknowledgement(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send_all(["0", "1"])
    await other_client.ack((await consumer.take(2))[0], "sub")
    again = client.receive(await client.subscribe(topic, "sub"))
    assert (await again.next()).payload == b"1"


async def test_a_missing_msg_id_is_refused(client: Client) -> None:
    request = danube.AckRequest(request_id=1, subscription_name="sub")
    refusal = await client.refused("Ack", request)
    assert refusal.code == "INVALID_ARGUMENT"
    assert "msg_id" in refusal.message


@pytest.mark.wires("calls", "streaming")
async def test_an_acknowledgement_may_be_repeated(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send_all(["0", "1"])
    first, second = await consumer.take(2)
    for _ in range(3):
        await client.ack(first, "sub")
    await client.ack(second, "sub")
    await client.ack(first, "sub")


async def test_an_unknown_delivery_is_no_error_and_changes_nothing(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    consumer = client.receive(consumer_id)
    await producer.send_all(["0", "1"])
    held = await consumer.take(2)
    for tag in (0, 1, (1 << 64) - 1, max(message.request_id for message in held) + 1):
        if tag in {message.request_id for message in held}:
            continue
        stranger = danube.StreamMessage(request_id=tag, msg_id=held[0].msg_id)
        await client.ack(stranger, "sub")
    await consumer.cancel()
    again = client.receive(consumer_id)
    assert [message.payload for message in await again.take(2)] == [b"0", b"1"]


async def test_a_delivery_of_an_ended_stream_can_still_be_acknowledged(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    consumer = client.receive(consumer_id)
    await producer.send_all(["0", "1"])
    first, _second = await consumer.take(2)
    await consumer.cancel()
    await client.ack(first, "sub")
    assert (await client.receive(consumer_id).next()).payload in {b"0", b"1"}  # redelivery may be under way


async def test_an_unknown_topic_is_no_error(client: Client, topic: str) -> None:
    for name in (topic, "", "no name of a topic"):
        stranger = danube.StreamMessage(request_id=9, msg_id=danube.MsgID(topic_name=name))
        await client.ack(stranger, "sub")


async def test_an_unknown_subscription_is_an_internal_error_of_a_kind_not_to_retry(
    client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    await producer.send("x")
    message = await consumer.next()
    request = danube.AckRequest(
        request_id=message.request_id, msg_id=message.msg_id, subscription_name="nobody"
    )
    refusal = await client.refused("Ack", request)
    assert refusal.code == "INTERNAL"
    assert refusal.error_type != SERVICE_NOT_READY
    assert "nobody" in refusal.message


async def test_a_message_of_a_partition_is_acknowledged_by_the_topic_in_its_msg_id(
    client: Client, topic: str
) -> None:
    names = [f"{topic}-part-{number}" for number in range(3)]
    ids = {}
    for name in names:
        producer = await client.reliable_producer(name)
        await producer.send_all([f"{name} 0", f"{name} 1"])
        ids[name] = await client.subscribe(name, "sub", kind=SHARED)
    for name in names:
        stream = client.receive(ids[name])
        message = await stream.next()
        assert message.msg_id.topic_name == name
        await client.ack(message, "sub")
        await stream.cancel()
    for name in names:
        stream = client.receive(ids[name])
        assert (await stream.next()).payload == f"{name} 1".encode()


async def test_a_late_acknowledgement_does_not_count_for_a_subscription_that_was_created_again(
    client: Client, other_client: Client, admin: Admin, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    await producer.send("one")
    first = await client.consume(topic, "sub")
    late = await first.next()
    await first.cancel()
    await admin.unsubscribe(topic, "sub")
    consumer_id = await other_client.subscribe(topic, "sub")
    second = other_client.receive(consumer_id)
    again = await second.next()
    assert again.payload == b"one"
    await client.ack(late, "sub")
    await second.cancel()
    third = other_client.receive(consumer_id)
    again = await third.next()
    assert again.payload == b"one", "the late acknowledgement did not count"
    await other_client.ack(again, "sub")
    await third.cancel()
    await producer.send("two")
    assert (await other_client.receive(consumer_id).next()).payload == b"two"
