"""Consume of native streaming (docs/wire/stream.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from tests.conformance.client import Admin, Client

from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.consume_stream import ConsumeStream, messages_of
from danube_harness.traffic.publish_stream import PublishStream
from danube_proto import danube_stream_pb2 as api

Open = Callable[..., Awaitable[ConsumeStream]]
Send = Callable[..., Awaitable[list[int]]]


@pytest_asyncio.fixture
async def consume(platform: Platform, topic: str) -> AsyncIterator[Open]:
    """Opens streams on the test's topic."""
    streams: list[ConsumeStream] = []

    async def open_one(subscription: str = "s", *, at: Any = topic, **fields: Any) -> ConsumeStream:
        stream = await ConsumeStream.open(platform.gateway_addrs[0], at, subscription, **fields)
        streams.append(stream)
        return stream

    yield open_one
    for stream in streams:
        await stream.close()


@pytest_asyncio.fixture
async def send(platform: Platform, topic: str) -> AsyncIterator[Send]:
    """Publishes messages in one batch and returns their positions."""
    streams: dict[str, PublishStream] = {}
    sent: dict[str, int] = {}

    async def send_all(*payloads: bytes, at: str = topic, **fields: Any) -> list[int]:
        if at not in streams:
            streams[at] = await PublishStream.open(platform.gateway_addrs[0], at, "p", **fields)
            sent[at] = 1
        if not payloads:
            return []
        await streams[at].send(sent[at], list(payloads))
        sent[at] += len(payloads)
        ((_, first),) = await streams[at].stored(sent[at] - 1)
        return [first + index if first else 0 for index in range(len(payloads))]

    yield send_all
    for stream in streams.values():
        await stream.close()


def payloads(got: list[tuple[int, api.StoredMessage]]) -> list[bytes]:
    return [message.payload for _, message in got]


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


async def test_what_was_published_before_the_subscription_comes_with_its_positions_in_one_batch(
    consume: Open, send: Send
) -> None:
    positions = await send(b"one", b"two", b"three")
    stream = await consume()
    added = (await stream.await_one("topic_added")).topic_added
    assert (added.topic, added.reliable, added.created) == (0, True, True)
    got = await stream.take(3)
    assert [position for position, _ in got] == positions
    assert payloads(got) == [b"one", b"two", b"three"]


async def test_offsets_count_the_messages_whatever_gaps_the_positions_have(consume: Open, send: Send) -> None:
    for count in (2, 3, 1):
        await send(*numbers(count))
    stream = await consume(start=api.Start(kind=api.Start.LAST, value=5))
    offsets: list[int] = []
    while len(offsets) < 5:
        delivery = (await stream.await_one("delivery")).delivery
        offsets += range(delivery.first_offset, delivery.first_offset + delivery.batch.messages)
    assert offsets[-5:] == [1, 2, 3, 4, 5]


async def test_what_is_acknowledged_does_not_come_again_and_the_rest_does(consume: Open, send: Send) -> None:
    positions = await send(*numbers(6))
    first = await consume(consumer_name="c")
    await first.take(6)
    await first.ack((positions[0], positions[1]), (positions[3], positions[3]))
    await first.confirm()
    await first.close()
    second = await consume(consumer_name="c")
    assert [position for position, _ in await second.take(3)] == [positions[each] for each in (2, 4, 5)]


async def test_a_cumulative_acknowledgement_takes_all_before_it(consume: Open, send: Send) -> None:
    positions = [*await send(*numbers(3)), *await send(*numbers(3, 3))]
    first = await consume(consumer_name="c")
    await first.take(6)
    await first.ack(cumulative=positions[4])
    await first.confirm()
    await first.close()
    second = await consume(consumer_name="c")
    assert [position for position, _ in await second.take(1)] == positions[5:]


async def test_a_shared_subscription_has_no_cumulative_acknowledgement(consume: Open, send: Send) -> None:
    await send(*numbers(1))
    stream = await consume(type=api.Subscribe.SHARED)
    await stream.take(1)
    await stream.ack(cumulative=1 << 40)
    assert (await stream.status())[0] == "INVALID_ARGUMENT"


async def test_no_more_comes_than_the_credit_allows_until_there_is_more(consume: Open, send: Send) -> None:
    await send(*numbers(10))
    stream = await consume(credit=api.Credit(messages_total=4, bytes_total=1 << 30))
    assert payloads(await stream.take(4)) == numbers(4)
    await stream.confirm()
    assert not [each for each in stream.other if each.HasField("delivery")]
    await stream.send(credit=api.Credit(messages_total=7, bytes_total=1 << 30))
    assert payloads(await stream.take(3)) == numbers(3, 4)
    await stream.send(credit=api.Credit(messages_total=100, bytes_total=1 << 30))
    assert payloads(await stream.take(3)) == numbers(3, 7)


async def test_nothing_comes_while_the_consumer_pauses(consume: Open, send: Send) -> None:
    await send(*numbers(1))
    stream = await consume()
    await stream.take(1)
    await stream.send(pause=api.Pause(paused=True))
    await stream.confirm(1)
    await send(*numbers(1, 1))
    await stream.confirm(2)
    assert not [each for each in stream.other if each.HasField("delivery")]
    await stream.send(pause=api.Pause(paused=False))
    assert payloads(await stream.take(1)) == numbers(1, 1)


@pytest.mark.parametrize("compression", [api.COMPRESSION_ZSTD, api.COMPRESSION_LZ4])
async def test_batches_are_compressed_as_the_client_accepts(
    consume: Open, send: Send, compression: api.Compression
) -> None:
    await send(b"a" * 5000, b"b" * 5000)
    stream = await consume(compressions=[compression])
    batch = (await stream.await_one("delivery")).delivery.batch
    assert batch.compression == compression
    assert len(batch.body) < 500
    other = await consume("other")
    assert payloads(await other.take(2)) == [b"a" * 5000, b"b" * 5000]


async def test_a_nacked_message_comes_again_and_tells_how_often_it_failed(consume: Open, send: Send) -> None:
    positions = await send(*numbers(2))
    stream = await consume(type=api.Subscribe.SHARED)
    await stream.take(2)
    await stream.ack((positions[1], positions[1]))
    ranges = [api.Range(first=positions[0], last=positions[0])]
    await stream.send(nack=api.Nack(ranges=ranges, delay_ms=10, reason="no"))
    again = (await stream.await_one("delivery")).delivery
    assert [message.payload for message in messages_of(again.batch)] == numbers(1)
    assert list(again.redelivered) == [api.Redelivered(index=0, failures=1)]
    await stream.send(nack=api.Nack(ranges=ranges, delay_ms=10))
    assert (await stream.await_one("delivery")).delivery.redelivered[0].failures == 2
    other = await consume("other")
    assert not (await other.await_one("delivery")).delivery.redelivered, "another subscription's failures"


async def test_a_seek_moves_the_cursor_and_what_comes_after_seeked_begins_there(
    consume: Open, send: Send
) -> None:
    positions = await send(*numbers(5))
    stream = await consume()
    await stream.take(5)
    await stream.ack((positions[0], positions[4]))
    start = api.Start(kind=api.Start.POSITION, value=positions[3])
    await stream.send(seek=api.Seek(start=start, ticket=7))
    seeked = (await stream.await_one("seeked")).seeked
    assert (seeked.ticket, seeked.code) == (7, 0)
    assert payloads(await stream.take(2)) == numbers(2, 3)


async def test_a_seek_that_cannot_be_says_why_and_the_stream_goes_on(consume: Open, send: Send) -> None:
    await send(dispatch=api.Dispatch(reliable=False))
    stream = await consume()
    await stream.send(seek=api.Seek(start=api.Start(kind=api.Start.EARLIEST), ticket=7))
    seeked = (await stream.await_one("seeked")).seeked
    assert (seeked.ticket, seeked.code) == (7, grpc.StatusCode.PERMISSION_DENIED.value[0])
    await send(*numbers(1))
    assert payloads(await stream.take(1)) == numbers(1)


async def test_the_end_of_the_backlog_is_told_behind_the_last_message(consume: Open, send: Send) -> None:
    await send(*numbers(3))
    stream = await consume()
    await stream.await_one("end_of_backlog")
    assert sum(each.delivery.batch.messages for each in stream.other) == 3


async def test_of_a_failover_subscription_one_is_active_and_another_takes_over(
    consume: Open, send: Send
) -> None:
    await send()
    first = await consume(type=api.Subscribe.FAILOVER, consumer_name="a")
    assert (await first.await_one("assignment")).assignment.active
    second = await consume(type=api.Subscribe.FAILOVER, consumer_name="b")
    assert not (await second.await_one("assignment")).assignment.active
    await first.close()
    assert (await second.await_one("assignment")).assignment.active
    await send(*numbers(1))
    assert payloads(await second.take(1)) == numbers(1)


async def test_a_second_exclusive_consumer_is_refused(consume: Open, send: Send) -> None:
    await send()
    await consume(consumer_name="a")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await consume(consumer_name="b")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_consumer_that_takes_over_ends_the_stream_of_the_other(consume: Open, send: Send) -> None:
    await send()
    first = await consume(consumer_name="a")
    await consume(consumer_name="a")
    assert (await first.status())[0] == "PERMISSION_DENIED"


async def test_messages_of_one_stream_say_their_topics_and_new_ones_join(
    consume: Open, send: Send, topic: str
) -> None:
    one, other = f"{topic}-a", f"{topic}-b"
    await send(b"1", at=one)
    stream = await consume(at=[], pattern=f"{topic}-?")
    assert (await stream.await_one("topic_added")).topic_added.name == one
    await send(b"2", at=other)
    assert (await stream.await_one("topic_added")).topic_added.name == other
    assert (await stream.await_one("delivery")).delivery.topic == 1
    (first,) = (each.delivery for each in stream.other if each.HasField("delivery"))
    assert first.topic == 0


async def test_partitions_are_consumed_by_the_name_of_their_base(
    consume: Open, send: Send, topic: str, platform: Platform
) -> None:
    producer = await PublishStream.open(platform.gateway_addrs[0], topic, "p", partitions=3)
    for partition in range(3):
        await producer.send(1, [b"%d" % partition], partition)
    stream = await consume()
    assert sorted(payloads(await stream.take(3))) == numbers(3)
    await producer.close()


async def test_a_deleted_topic_ends_alone_and_the_stream_with_its_last(
    admin: Admin, consume: Open, send: Send, topic: str
) -> None:
    one, other = f"{topic}-a", f"{topic}-b"
    await send(at=one)
    await send(at=other)
    stream = await consume(at=[one, other])
    await admin.delete_topic(one)
    ended = (await stream.await_one("topic_ended")).topic_ended
    assert (ended.topic, ended.code) == (0, grpc.StatusCode.NOT_FOUND.value[0])
    await send(b"still", at=other)
    assert payloads(await stream.take(1)) == [b"still"]
    await admin.delete_topic(other)
    assert (await stream.status())[0] == "OK"


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"key_filters": ["a*"]}, None),
        ({"type": 9}, None),
        ({"start": api.Start(kind=api.Start.LATEST, value=3)}, None),
        ({"compressions": [9]}, None),
        ({}, []),
    ],
    ids=["filters", "type", "start", "compression", "no topic"],
)
async def test_a_wrong_subscribe_is_refused(
    consume: Open, send: Send, topic: str, fields: dict[str, Any], at: list[str] | None
) -> None:
    await send()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await consume(at=topic if at is None else at, **fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_topic_that_does_not_exist_is_not_found_or_awaited(
    consume: Open, send: Send, topic: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await consume()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    stream = await consume(await_topics=True)
    await send(b"1")
    assert (await stream.await_one("topic_added")).topic_added.name == topic
    assert payloads(await stream.take(1)) == [b"1"]


async def test_a_stream_and_a_client_of_v0_2_share_a_subscription(
    client: Client, consume: Open, send: Send, topic: str
) -> None:
    await send()
    stream = await consume(type=api.Subscribe.SHARED)
    consumer = await client.subscribe(topic, "s", kind=1)
    receiving = client.receive(consumer)
    await receiving.opened()
    positions = await send(*numbers(40))
    got = await receiving.take(1)
    assert got[0].payload in numbers(40)
    more = await stream.take(1)
    assert payloads(more)[0] in numbers(40)
    assert {position for position, _ in more} <= set(positions)


async def test_a_consumer_without_credit_keeps_nothing_from_the_others(consume: Open, send: Send) -> None:
    await send()
    shared: dict[str, Any] = {"type": api.Subscribe.SHARED}
    slow = await consume(
        consumer_name="slow", credit=api.Credit(messages_total=5, bytes_total=1 << 30), **shared
    )
    fast = await consume(consumer_name="fast", **shared)
    await send(*numbers(100))
    got = [*payloads(await slow.take(5)), *payloads(await fast.take(95))]
    assert sorted(got) == sorted(numbers(100))


async def test_tickets_are_answered_before_a_stream_that_its_client_closes_ends(
    consume: Open, send: Send
) -> None:
    positions = await send(*numbers(3))
    stream = await consume()
    await stream.take(3)
    await stream.ack((positions[0], positions[2]), ticket=9)
    await stream.done()
    assert await stream.status() == ("OK", "")
    assert [each.acked.ticket for each in stream.other if each.HasField("acked")] == [9]


async def test_a_range_passes_over_what_others_got(consume: Open, send: Send) -> None:
    await send()
    shared: dict[str, Any] = {"type": api.Subscribe.SHARED}
    one = await consume(consumer_name="a", credit=api.Credit(messages_total=1, bytes_total=1 << 30), **shared)
    other = await consume(consumer_name="b", **shared)
    positions = await send(*numbers(20))
    (mine, _), *_ = await one.take(1)
    theirs = await other.take(19)
    await one.ack((positions[0], positions[-1]))
    await one.confirm()
    await one.close()
    again = await consume(consumer_name="a", **shared)
    await other.close()
    came = {position for position, _ in await again.take(19)}
    assert came == {position for position, _ in theirs}
    assert mine not in came
