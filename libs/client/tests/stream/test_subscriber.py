from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from grpc import StatusCode

import danube_client
from danube_client import (
    Client,
    Consumer,
    Disconnected,
    Event,
    NotReady,
    Reconnected,
    Start,
    SubscriptionType,
)
from danube_harness.services.stub_streaming import StubStreaming

TOPIC = "/default/t"


@pytest.fixture(autouse=True)
def topic(stub: StubStreaming) -> None:
    stub.create(TOPIC)


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


async def take(consumer: Consumer, count: int) -> list[bytes]:
    return [(await anext(consumer)).payload for _ in range(count)]


def acked(stub: StubStreaming, subscription: str = "s", name: str = TOPIC) -> set[int]:
    return stub.cursors[name, subscription].acked


async def test_a_message_arrives_with_all_that_was_sent(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(
        TOPIC, b"12", producer_name="p", publish_time=1700000000500, routing_key="k", attributes={"a": "b"}
    )
    async with streaming.consumer(TOPIC, "s", name="c") as consumer:
        message = await consumer.receive(timeout=30)
        assert consumer.created
        assert consumer.topics == [TOPIC]
    assert (message.payload, message.text, message.json(), message.int64()) == (b"12", "12", 12, 12)
    assert (message.topic, message.key, message.producer_name) == (TOPIC, "k", "p")
    assert dict(message.attributes) == {"a": "b"}
    assert message.publish_time == datetime(2023, 11, 14, 22, 13, 20, 500000, UTC)
    assert (message.position, message.redelivery_count) == (1, 0)


async def test_all_messages_come_in_order_and_acknowledgements_leave_as_ranges(
    stub: StubStreaming, streaming: Client
) -> None:
    for first in range(0, 3000, 500):
        stub.publish(TOPIC, *numbered(3000)[first : first + 500])
    received = []
    async with streaming.consumer(TOPIC, "s") as consumer:
        async for message in consumer:
            received.append(message.payload)
            await message.ack()
            if len(received) == 3000:
                break
        await consumer.flush_acks()
        assert acked(stub) == {position for position, _ in stub.topics[TOPIC].messages}
    assert received == numbered(3000)
    assert len(stub.acks) < 100


async def test_acknowledgements_leave_without_being_asked(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, b"a")
    async with streaming.consumer(TOPIC, "s") as consumer:
        await (await anext(consumer)).ack()
        await stub.until(lambda: acked(stub) == {1})


async def test_credit_bounds_what_is_on_its_way(stub: StubStreaming, streaming: Client) -> None:
    for _ in range(200):
        stub.publish(TOPIC, *numbered(100))
    async with streaming.consumer(TOPIC, "s") as consumer:
        first = await anext(consumer)
        await asyncio.sleep(0.1)
        assert first.payload == b"0"
        assert consumer.ready <= 8192 + 100
        assert len(await take(consumer, 19_999)) == 19_999


async def test_after_a_lost_connection_unacknowledged_messages_come_again_and_acknowledged_do_not(
    stub: StubStreaming, streaming: Client
) -> None:
    events: list[Event] = []
    stub.publish(TOPIC, *numbered(4))
    async with streaming.consumer(TOPIC, "s", on_event=events.append) as consumer:
        messages = [await anext(consumer) for _ in range(4)]
        stub.no_acks = True  # what is acknowledged is lost on its way
        await messages[0].ack()
        await messages[1].ack()
        await stub.until(lambda: stub.acks)
        stub.no_acks = False
        stub.break_streams()
        assert await take(consumer, 2) == [b"2", b"3"]
        await consumer.flush_acks()
        assert acked(stub) == {1, 2}
    assert [type(event) for event in events] == [Disconnected, Reconnected]


async def test_a_consumer_comes_back_however_often_its_connection_breaks(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.delivery_messages = 7
    stub.publish(TOPIC, *numbered(200))
    received: list[bytes] = []
    async with streaming.consumer(TOPIC, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        while set(received) != set(numbered(200)):
            message = await anext(consumer)
            received.append(message.payload)
            await message.ack()
            if len(received) % 50 == 0:
                await consumer.flush_acks()
                stub.break_streams()
    assert received == numbered(200)


async def test_flushing_waits_through_a_lost_connection(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, b"a")
    async with streaming.consumer(TOPIC, "s") as consumer:
        await (await anext(consumer)).ack()
        stub.no_acks = True
        flushing = asyncio.create_task(consumer.flush_acks())
        await stub.until(lambda: stub.acks)
        assert not flushing.done()
        stub.no_acks = False
        stub.break_streams()
        await flushing
        assert acked(stub) == {1}


async def test_a_refused_message_comes_again_with_its_count(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, b"a")
    async with streaming.consumer(TOPIC, "s") as consumer:
        await (await anext(consumer)).nack(delay=1.5, reason="busy")
        again = await anext(consumer)
    assert (again.payload, again.redelivery_count) == (b"a", 1)
    (nack,) = [request.nack for request in stub.requests if request.HasField("nack")]
    assert (nack.delay_ms, nack.reason) == (1500, "busy")


@pytest.mark.parametrize(
    ("delay", "error", "text"),
    [
        ("busy", TypeError, r"not 'busy'.*reason="),
        (-1, ValueError, "negative"),
        (float("inf"), ValueError, "end"),
    ],
)
async def test_a_delay_that_is_none_is_told_to_who_gives_it(
    stub: StubStreaming, streaming: Client, delay: Any, error: type[Exception], text: str
) -> None:
    stub.publish(TOPIC, b"a")
    async with streaming.consumer(TOPIC, "s") as consumer:
        message = await anext(consumer)
        with pytest.raises(error, match=text):
            await message.nack(delay)
        await message.nack(1, "busy")
        await anext(consumer)
    assert [request.nack.delay_ms for request in stub.requests if request.HasField("nack")] == [1000]


async def test_cumulative_acknowledgement_covers_all_before(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, *numbered(10))
    async with streaming.consumer(TOPIC, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        messages = [await anext(consumer) for _ in range(10)]
        await messages[6].ack_cumulative()
        await consumer.flush_acks()
        assert acked(stub) == set(range(1, 8))


async def test_a_seek_voids_what_was_received(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, *numbered(10))
    async with streaming.consumer(TOPIC, "s") as consumer:
        old = [await anext(consumer) for _ in range(5)]
        await consumer.seek(Start.at(old[1].position))
        await old[0].ack()
        assert await take(consumer, 9) == numbered(10)[1:]
        await consumer.seek(Start.earliest(), TOPIC)
        assert await take(consumer, 10) == numbered(10)
        with pytest.raises(ValueError, match="no topic"):
            await consumer.seek(Start.earliest(), "/default/other")
        await consumer.flush_acks()
    assert not acked(stub)


async def test_a_paused_consumer_gets_nothing_until_it_goes_on(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.consumer(TOPIC, "s") as consumer:
        await consumer.pause()
        await stub.until(lambda: any(request.HasField("pause") for request in stub.requests))
        stub.publish(TOPIC, b"a")
        assert await consumer.receive_batch(timeout=0.05) == []
        await consumer.resume()
        assert (await consumer.receive(timeout=30)).payload == b"a"


async def test_several_topics_and_partitions_are_one_consumer(stub: StubStreaming, streaming: Client) -> None:
    stub.create("/default/parts", 2)
    stub.publish("/default/parts-part-0", b"p0")
    stub.publish("/default/parts-part-1", b"p1")
    stub.publish(TOPIC, b"t")
    async with streaming.consumer([TOPIC, "/default/parts"], "s") as consumer:
        messages = [await anext(consumer) for _ in range(3)]
        assert {(message.topic, message.payload) for message in messages} == {
            (TOPIC, b"t"),
            ("/default/parts-part-0", b"p0"),
            ("/default/parts-part-1", b"p1"),
        }
        for message in messages:
            await message.ack()
        await consumer.flush_acks()
    assert acked(stub, name="/default/parts-part-1") == {1}
    async with streaming.consumer("/default/parts*", "other") as consumer:
        assert set(await take(consumer, 2)) == {b"p0", b"p1"}
    assert stub.subscribed[-1].pattern == "/default/parts*"


async def test_receive_batch_takes_what_is_here(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, *numbered(10))
    async with streaming.consumer(TOPIC, "s") as consumer:
        with pytest.raises(ValueError, match="max must be at least 1"):
            await consumer.receive_batch(max=0)
        first = await consumer.receive_batch(max=4, timeout=30)
        rest = await consumer.receive_batch(timeout=30)
        assert [message.payload for message in (*first, *rest)] == numbered(10)
        with pytest.raises(TimeoutError):
            await consumer.receive(timeout=0.01)


async def test_messages_of_non_reliable_topics_need_no_acknowledgement(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.create("/default/fleeting", reliable=False)
    stub.publish("/default/fleeting", b"a")
    async with streaming.consumer("/default/fleeting", "s") as consumer:
        message = await anext(consumer)
        await message.ack()
        await consumer.flush_acks()
    assert message.position == 0
    assert not stub.acks


async def test_an_unknown_topic_is_told(streaming: Client) -> None:
    with pytest.raises(danube_client.TopicNotFound):
        await streaming.consumer("/default/none", "s")


async def test_a_consumer_whose_topic_was_made_again_ends(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.consumer(TOPIC, "s") as consumer:
        stub.create(TOPIC)
        stub.break_streams()
        with pytest.raises(danube_client.TopicDeleted):
            await anext(consumer)


async def test_a_consumer_that_is_replaced_does_not_come_back(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.consumer(TOPIC, "s", reconnect=False) as consumer:
        stub.break_streams()
        with pytest.raises(danube_client.CallError):
            await anext(consumer)
    assert len(stub.subscribed) == 1


async def test_closing_ends_an_iteration_that_waits(streaming: Client) -> None:
    consumer = await streaming.consumer(TOPIC, "s")
    waiting = asyncio.create_task(take(consumer, 1))
    await asyncio.sleep(0)
    await consumer.close()
    with pytest.raises(StopAsyncIteration):
        await consumer.__anext__()
    await asyncio.wait([waiting])
    assert waiting.exception() is not None


async def test_opening_is_tried_again(stub: StubStreaming, streaming: Client) -> None:
    stub.fail_opens.append(StatusCode.UNAVAILABLE)
    async with streaming.consumer(TOPIC, "s"):
        assert len(stub.subscribed) == 2


@dataclass
class Order:
    item: str


async def test_a_codec_makes_values(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, b'{"item":"tea"}')
    async with streaming.consumer(TOPIC, "s", codec=Order) as consumer:
        assert (await anext(consumer)).value == Order("tea")


async def test_a_reader_reads_to_the_end_without_a_subscription(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.publish(TOPIC, *numbered(10))
    async with streaming.reader(TOPIC) as reader:
        assert [message.payload async for message in reader] == numbered(10)
    async with streaming.reader(TOPIC, start=Start.last(3)) as reader:
        assert [message.payload async for message in reader] == numbered(10)[-3:]
    async with streaming.reader(TOPIC, start=Start.at(2), end_position=5, max_messages=3) as reader:
        assert [message.position async for message in reader] == [2, 3, 4]
    assert not stub.cursors


async def test_a_reader_goes_on_where_it_was(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, *numbered(100))
    received = []
    async with streaming.reader(TOPIC) as reader:
        async for message in reader:
            received.append(message.payload)
            if len(received) == 4:
                stub.break_streams()
    assert received == numbered(100)


async def test_topics_are_listed(stub: StubStreaming, streaming: Client) -> None:
    stub.create("/default/parts", 2)
    assert await streaming.topics("/default/*") == [
        danube_client.Topic("/default/parts", 2, reliable=True),
        danube_client.Topic(TOPIC, 0, reliable=True),
    ]
    assert await streaming.topics("/default/t*") == [danube_client.Topic(TOPIC, 0, reliable=True)]


async def test_after_a_refused_seek_what_was_here_comes_again(stub: StubStreaming, streaming: Client) -> None:
    stub.publish(TOPIC, *numbered(3))
    async with streaming.consumer(TOPIC, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert await take(consumer, 1) == [b"0"]
        stub.refuse_seeks = True
        with pytest.raises(NotReady, match="as scripted"):
            await consumer.seek(Start.latest())
        assert await take(consumer, 3) == numbered(3)
