"""ReceiveMessages (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.conformance.client import (
    DEADLINE_S,
    SERVICE_NOT_READY,
    SHARED,
    Client,
    Refusal,
    check_refusal,
)

from danube_harness.platforms.standalone import Platform


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that other tasks make true."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - outcomes of gRPC calls have no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("unknown", [0, 1, 98765432109876543, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_an_unknown_consumer_is_not_found(client: Client, unknown: int) -> None:
    with pytest.raises(Refusal) as caught:
        await client.receive(unknown).next()
    check_refusal("ReceiveMessages", caught.value)
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.error_type != SERVICE_NOT_READY


@pytest.mark.parametrize("reliable", [False, True])
async def test_a_stream_opens_before_any_message_exists(client: Client, topic: str, reliable: bool) -> None:
    # The Rust client waits for the headers of one partition's stream before it opens the next one.
    await (client.reliable_producer(topic) if reliable else client.producer(topic))
    stream = client.receive(await client.subscribe(topic, "sub"))
    await stream.opened()


async def test_a_message_sent_after_the_stream_opened_is_delivered(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    for number in range(10):
        consumer = await client.consume(topic, f"sub{number}")
        await producer.send(f"{number}")
        assert (await consumer.next()).payload == f"{number}".encode()


async def test_a_consumer_id_works_at_another_gateway(
    client: Client, other_client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    consumer_id = await client.subscribe(topic, "sub")
    await producer.send("one")
    assert (await other_client.receive(consumer_id).next()).payload == b"one"


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_second_stream_of_a_consumer_takes_the_first_one_over(
    client: Client, other_client: Client, topic: str, reliable: bool, elsewhere: bool
) -> None:
    producer = await (client.reliable_producer(topic) if reliable else client.producer(topic))
    consumer_id = await client.subscribe(topic, "sub")
    first = client.receive(consumer_id)
    await first.opened()
    await producer.send("to the first")
    await client.ack(await first.next(), "sub")
    second = (other_client if elsewhere else client).receive(consumer_id)
    await second.opened()
    await first.ended()
    await producer.send("to the second")
    assert (await second.next()).payload == b"to the second"


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_two_clients_of_one_consumer_name_end_their_fight_after_one_take_over(
    client: Client, platform: Platform, topic: str, elsewhere: bool
) -> None:
    producer = await client.reliable_producer(topic)
    rivals = [Client(platform.gateway_addr), Client(platform.gateway_addrs[1 if elsewhere else 0])]
    received: list[int] = []
    refusals: list[list[Refusal]] = [[], []]

    async def consume_for_ever(rival: int) -> None:
        """A client that subscribes again whenever its stream has ended, whatever the status was."""
        while True:
            try:
                stream = await rivals[rival].consume(topic, "sub", "work", SHARED)
                while True:
                    message = await stream.next()
                    received.append(int(message.payload))
                    await rivals[rival].ack(message, "sub")
            except Refusal as refusal:
                check_refusal("ReceiveMessages", refusal)
                refusals[rival].append(refusal)
                await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(consume_for_ever(0))]
    try:
        await producer.send("0")
        await until(lambda: received == [0])
        tasks.append(asyncio.create_task(consume_for_ever(1)))
        await until(lambda: len(refusals[0]) > 1)
        await producer.send_all([str(number) for number in range(1, 101)])
        await until(lambda: len(set(received)) == 101)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for rival in rivals:
            await rival.close()
    assert refusals[1] == [], "the client that took over was evicted"
    assert {refusal.code for refusal in refusals[0]} == {"PERMISSION_DENIED"}
    assert all("another client took over as consumer 'work'" in each.message for each in refusals[0])
    assert sorted(received) == list(range(101)), "a take-over delivered messages twice"


async def test_the_name_of_a_client_that_has_gone_is_free_at_once(
    client: Client, platform: Platform, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    first, second = Client(platform.gateway_addr), Client(platform.gateway_addr)
    displaced = await first.consume(topic, "sub", "work")
    await second.consume(topic, "sub", "work")
    await displaced.ended()
    with pytest.raises(Refusal):
        await first.consume(topic, "sub", "work")
    await second.close()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                again = await first.consume(topic, "sub", "work")
                break
            except Refusal:
                await asyncio.sleep(0.02)
    await producer.send("x")
    assert (await again.next()).payload == b"x"
    await first.close()


async def test_what_the_first_stream_left_unacknowledged_comes_again_on_the_second(
    client: Client, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    await producer.send_all(["0", "1", "2"])
    consumer_id = await client.subscribe(topic, "sub")
    first = client.receive(consumer_id)
    messages = await first.take(3)
    await client.ack(messages[1], "sub")
    second = client.receive(consumer_id)
    assert [message.payload for message in await second.take(2)] == [b"0", b"2"]


@pytest.mark.parametrize("reliable", [False, True])
async def test_messages_carry_their_msg_id_as_produced(client: Client, topic: str, reliable: bool) -> None:
    producer = await (client.reliable_producer(topic) if reliable else client.producer(topic))
    consumer = await client.consume(topic, "sub")
    for _ in range(5):
        sent = producer.message("x")
        sent.msg_id.broker_addr = "anything the client calls it"
        await client.call("SendMessage", sent)
        assert (await consumer.next()).msg_id == sent.msg_id


async def test_every_delivery_of_a_reliable_topic_has_its_own_tag(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    consumer = await client.consume(topic, "sub")
    for _ in range(20):
        message = producer.message("x")
        message.request_id = 5
        await client.call("SendMessage", message)
    messages = await consumer.take(20)
    assert len({message.request_id for message in messages}) == 20
    assert 0 not in {message.request_id for message in messages}


async def test_several_streams_run_over_one_connection(client: Client, topic: str) -> None:
    names = [f"{topic}-part-{number}" for number in range(8)]
    producers = [await client.reliable_producer(name) for name in names]
    streams = [await client.consume(name, "sub", kind=SHARED) for name in await client.partitions(topic)]
    for producer in producers:
        await producer.send(producer.topic)
    received = [(await stream.next()).payload.decode() for stream in streams]
    assert sorted(received) == sorted(names)
