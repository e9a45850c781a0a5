from __future__ import annotations

import asyncio
import gc
import json
from dataclasses import dataclass

import pytest
from grpc import StatusCode

import danube_client
from danube_client import Client, Disconnected, Event, NonReliable, Reconnected, Schema, connect
from danube_client.stream.routing import fnv1a_64
from danube_harness.services.stub_streaming import StubStreaming
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

TOPIC = "/default/t"


async def test_send_returns_the_position(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.producer(TOPIC, name="p") as producer:
        positions = [await producer.send("a", {"k": "v"}, key="key"), await producer.send("b")]
        assert producer.topics == [TOPIC]
    log = stub.topics[TOPIC]
    assert positions == [position for position, _ in log.messages]
    message = wire.StreamMessage.FromString(log.messages[0][1])
    assert (message.payload, message.routing_key, dict(message.attributes)) == (b"a", "key", {"k": "v"})
    assert message.producer_name == "p"
    assert stub.opened[0].idempotent


async def test_messages_that_gather_leave_together_and_in_order(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.producer(TOPIC) as producer:
        futures = [await producer.post(str(number)) for number in range(500)]
        positions = await asyncio.gather(*futures)
    assert stub.topics[TOPIC].payloads() == [str(number).encode() for number in range(500)]
    assert positions == [position for position, _ in stub.topics[TOPIC].messages]
    assert len(stub.batches) < 10


async def test_nothing_is_lost_doubled_or_reordered_while_connections_break(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.producer(TOPIC) as producer:
        futures = []
        for number in range(300):
            futures.append(await producer.post(str(number)))
            if number % 30 == 0:
                stub.silent = number % 60 == 0  # stored, and not answered
                await asyncio.sleep(0)
                stub.break_streams()
                stub.silent = False
        await asyncio.gather(*futures)
    assert stub.topics[TOPIC].payloads() == [str(number).encode() for number in range(300)]


async def test_an_unanswered_batch_is_sent_again_with_the_same_numbers(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.silent = True
    async with streaming.producer(TOPIC) as producer:
        future = await producer.post("a")
        await stub.until(lambda: len(stub.batches) == 1)
        stub.silent = False
        stub.break_streams()
        assert await future == 0  # stored before: its position is not told again
        assert await producer.send("b") > 0
    first, again, second = stub.batches
    assert first == again
    assert second.first_sequence == 2
    assert stub.opened[1].must_exist


async def test_a_send_during_an_outage_waits_for_the_platform(stub: StubStreaming, streaming: Client) -> None:
    events: list[Event] = []
    async with streaming.producer(TOPIC, on_event=events.append) as producer:
        await stub.stop()
        sending = asyncio.create_task(producer.send("a"))
        await asyncio.sleep(0.05)
        assert not sending.done()
        await stub.start()
        assert await sending
    assert [type(event) for event in events] == [Disconnected, Reconnected]


async def test_a_send_during_an_outage_is_bounded_by_time(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.producer(TOPIC, send_timeout_s=0.05, in_flight_max=1) as producer:
        await stub.stop()
        future = await producer.post("a")
        with pytest.raises(danube_client.SendTimeout, match="no room"):
            await producer.post("b")
        with pytest.raises(danube_client.SendTimeout, match="not stored within"):
            await future
        await producer.abort()


async def test_the_buffer_is_bounded_by_bytes(stub: StubStreaming, streaming: Client) -> None:
    stub.silent = True
    async with streaming.producer(TOPIC, buffer_bytes=3000) as producer:
        await producer.post(b"x" * 1000)
        await producer.post(b"x" * 1000)
        waiting = asyncio.create_task(producer.post(b"x" * 1000))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        stub.silent = False
        stub.break_streams()
        await (await waiting)


async def test_a_client_that_wants_to_fail_fails(stub: StubStreaming) -> None:
    retry = danube_client.Retry(first_s=0.01, max_s=0.02, reconnect_for_s=0.05)
    async with (
        connect(stub.address, retry=retry, streaming=True) as client,
        client.producer(TOPIC) as producer,
    ):
        await stub.stop()
        with pytest.raises(danube_client.Unreachable):
            await producer.send("a")
        await producer.abort()


async def test_one_wrong_message_does_not_harm_its_neighbours(stub: StubStreaming, streaming: Client) -> None:
    stub.reject_payload = b"3"
    stub.schema = api.Schema(type=api.Schema.INT64)
    async with streaming.producer(TOPIC) as producer:
        futures = [await producer.post(number) for number in range(6)]
        results = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(results[3], danube_client.InvalidRequest)
    assert [result for result in results if isinstance(result, BaseException)] == [results[3]]
    assert stub.topics[TOPIC].payloads() == [b"0", b"1", b"2", b"4", b"5"]


async def test_what_is_refused_for_a_time_is_sent_again_under_new_numbers(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.refusals.extend([(StatusCode.UNAVAILABLE, None)] * 2)
    async with streaming.producer(TOPIC) as producer:
        assert await producer.send("a")
        await producer.send("b")
    assert [batch.first_sequence for batch in stub.batches] == [1, 2, 3, 4]
    assert stub.topics[TOPIC].payloads() == [b"a", b"b"]


async def test_what_is_refused_for_good_fails(stub: StubStreaming, streaming: Client) -> None:
    stub.refusals.append((StatusCode.RESOURCE_EXHAUSTED, None))
    async with streaming.producer(TOPIC) as producer:
        with pytest.raises(danube_client.LimitReached):
            await producer.send("a")
        assert await producer.send("b")


async def test_messages_of_a_key_share_a_partition_and_others_take_turns(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.producer(TOPIC, partitions=3) as producer:
        assert producer.topics == [f"{TOPIC}-part-{number}" for number in range(3)]
        for _ in range(2):
            await producer.send("keyed", key="customer-1")
        for number in range(3):
            await producer.send(str(number))
    own = fnv1a_64(b"customer-1") % 3
    for number in range(3):
        expected = [b"keyed"] * 2 if number == own else []
        assert stub.topics[f"{TOPIC}-part-{number}"].payloads() == [*expected, str(number).encode()]


async def test_a_producer_on_an_existing_non_reliable_topic_is_not_idempotent(
    stub: StubStreaming, streaming: Client
) -> None:
    stub.create(TOPIC, reliable=False)
    async with streaming.producer(TOPIC) as producer:
        assert await producer.send("a") == 0
    async with streaming.producer("/default/other", strategy=NonReliable()) as producer:
        assert await producer.send("a") == 0
    assert [opening.idempotent for opening in stub.opened] == [True, False, False]


async def test_a_topic_that_was_made_again_is_another_one(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.producer(TOPIC) as producer:
        stub.create(TOPIC)
        stub.break_streams()
        with pytest.raises(danube_client.TopicDeleted):
            await producer.send("a")


async def test_a_deleted_topic_is_not_created_again(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.producer(TOPIC) as producer:
        del stub.topics[TOPIC]
        stub.break_streams()
        with pytest.raises(danube_client.TopicDeleted):
            await producer.send("a")
    assert not stub.topics


async def test_opening_gives_up_after_the_retries(stub: StubStreaming, streaming: Client) -> None:
    stub.fail_opens.extend([StatusCode.UNAVAILABLE] * 8)
    with pytest.raises(danube_client.Unreachable):
        await streaming.producer(TOPIC)
    assert len(stub.opened) == 8


@dataclass
class Order:
    item: str
    count: int


async def test_payloads_are_what_the_schema_or_the_codec_makes_of_them(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.producer(TOPIC, codec=Order) as producer:
        await producer.send(Order("tea", 2))
    stub.schema = api.Schema(type=api.Schema.INT64)
    async with streaming.producer(TOPIC, schema=Schema.int64()) as producer:
        await producer.send(-7)
        with pytest.raises(TypeError, match="takes 64-bit integers"):
            await producer.send({"a": 1})
    stub.schema = api.Schema(type=api.Schema.JSON)
    async with streaming.producer(TOPIC) as producer:
        await producer.send({"a": [1, None]})
        with pytest.raises(TypeError, match="give the producer a codec"):
            await producer.send(Order("tea", 2))
    order, number, value = stub.topics[TOPIC].payloads()
    assert json.loads(order) == {"item": "tea", "count": 2}
    assert (number, value) == (b"-7", b'{"a":[1,null]}')


async def test_closing_flushes_and_a_forgotten_producer_warns(stub: StubStreaming, streaming: Client) -> None:
    async with streaming.producer(TOPIC) as producer:
        await producer.post("a")
    assert stub.topics[TOPIC].payloads() == [b"a"]
    with pytest.raises(danube_client.Closed):
        await producer.send("b")
    stub.silent = True
    forgotten = await streaming.producer(TOPIC)
    await forgotten.post("b")
    kept = [forgotten]
    del forgotten

    def forget() -> None:
        kept.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="1 unanswered"):
        forget()


async def test_a_larger_payload_than_the_topic_takes_is_refused_at_once(
    stub: StubStreaming, streaming: Client
) -> None:
    async with streaming.producer(TOPIC) as producer:
        with pytest.raises(danube_client.InvalidRequest, match="takes 1048576 at most"):
            await producer.send(b"x" * (1 << 20) + b"x")
    assert not stub.batches
