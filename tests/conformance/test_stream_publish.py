"""Publish of native streaming (docs/wire/stream.md)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import lz4.frame  # type: ignore[import-untyped]
import nats
import pytest
import pytest_asyncio
import zstandard
from tests.conformance.client import DEADLINE_S, Client

from danube_common.wire.frame import (
    IDEMPOTENT,
    RawSection,
    decode_frame,
    encode_section,
    make_frame_id,
    sequence_key,
)
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.publish_stream import (
    PublishStream,
    batch_of,
    batch_of_body,
    body_of,
    message_of,
)
from danube_proto import danube_platform_pb2
from danube_proto import danube_stream_pb2 as api

Open = Callable[..., Awaitable[PublishStream]]


@pytest_asyncio.fixture
async def open_stream(platform: Platform, topic: str) -> AsyncIterator[Open]:
    """Opens streams on the test's topic."""
    streams: list[PublishStream] = []

    async def open_one(name: str = "p", *, gateway: int = 0, at: str = topic, **fields: Any) -> PublishStream:
        stream = await PublishStream.open(platform.gateway_addrs[gateway], at, name, **fields)
        streams.append(stream)
        return stream

    yield open_one
    for stream in streams:
        await stream.close()


def payloads(*numbers: int) -> list[bytes]:
    return [f"{number}".encode() for number in numbers]


async def test_clients_of_v0_2_receive_what_a_stream_publishes_with_its_positions(
    client: Client, topic: str, open_stream: Open
) -> None:
    stream = await open_stream()
    consumer = await client.subscribe(topic, "s")
    sent = [
        message_of(b"one", publish_time=7, producer_name="p", attributes={"a": "b"}),
        message_of(b"two", routing_key="k"),
    ]
    await stream.send(1, batch_of_body(body_of(sent), 2))
    ((first, position),) = await stream.stored(2)
    assert first == 1
    got = await client.receive(consumer).take(2)
    assert [message.payload for message in got] == [b"one", b"two"]
    assert [message.request_id for message in got] == [position, position + 1]
    assert (got[0].publish_time, got[0].producer_name, dict(got[0].attributes)) == (7, "p", {"a": "b"})


async def test_a_new_topic_is_reliable_and_takes_any_bytes(
    client: Client, topic: str, open_stream: Open
) -> None:
    stream = await open_stream()
    assert stream.opened.reliable
    assert [part.topic for part in stream.opened.partitions] == [topic]
    assert stream.opened.schema.type == api.Schema.BYTES
    assert stream.opened.producer_name == "p"
    await stream.send(1, [b"\xff\xfe", b""])
    await stream.stored(2)
    producer = await client.producer(topic, "v0_2", dispatch_strategy=None)
    await producer.send("text")


async def test_messages_of_both_wires_have_one_order(client: Client, topic: str, open_stream: Open) -> None:
    stream = await open_stream()
    consumer = await client.subscribe(topic, "s")
    producer = await client.producer(topic, "v0_2", dispatch_strategy=None)
    for number in range(0, 6, 2):
        await stream.send(number // 2 + 1, payloads(number))
        await stream.stored(number // 2 + 1)
        await producer.send(f"{number + 1}")
    got = await client.receive(consumer).take(6)
    assert [message.payload for message in got] == payloads(*range(6))


async def test_batches_in_flight_are_stored_in_order(client: Client, topic: str, open_stream: Open) -> None:
    stream = await open_stream()
    consumer = await client.subscribe(topic, "s")
    for number in range(200):
        await stream.send(number + 1, payloads(number))
    batches = await stream.stored(200)
    assert [first for first, _ in batches] == list(range(1, 201))
    positions = [position for _, position in batches]
    assert positions == sorted(set(positions))
    got = await client.receive(consumer).take(200)
    assert [message.payload for message in got] == payloads(*range(200))
    assert [message.request_id for message in got] == positions


async def test_partitions_are_created_and_published_to_on_one_stream(
    client: Client, topic: str, open_stream: Open
) -> None:
    stream = await open_stream(partitions=3)
    names = [f"{topic}-part-{number}" for number in range(3)]
    assert [part.topic for part in stream.opened.partitions] == names
    for number in range(3):
        await stream.send(1, payloads(number), number)
        await stream.stored(1, number)
    for number, name in enumerate(names):
        consumer = await client.subscribe(name, "s", f"c{number}")
        producer = await client.producer(name, "v0_2", dispatch_strategy=None)
        await producer.send("later")
        got = await client.receive(consumer).take(2)
        assert [message.payload for message in got] == [*payloads(number), b"later"]
    other = await open_stream("q", gateway=1)
    assert [part.topic for part in other.opened.partitions] == names
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await open_stream("q", partitions=4)
    assert refused.value.code().name == "FAILED_PRECONDITION"
    assert "has 3 partitions" in (refused.value.details() or "")


async def test_a_stream_gets_the_partitions_that_its_topic_gets(
    platform: Platform, topic: str, open_stream: Open
) -> None:
    stream = await open_stream(partitions=1, idempotent=True)
    request = danube_platform_pb2.GrowTopicRequest(topic=topic, partitions=3)
    grow, answer = "/danube_platform.PartitionAdmin/GrowTopic", danube_platform_pb2.GrowTopicResponse
    assert (await ask_admin([platform.admin_addr], grow, request, answer)).success
    grown: list[api.Partition] = []
    while len(grown) < 2:
        grown += (await stream.answer()).partitions_grown.partitions
    assert [part.topic for part in grown] == [f"{topic}-part-1", f"{topic}-part-2"]
    await stream.send(1, payloads(1), 2)
    await stream.stored(1, 2)


async def test_a_non_reliable_topic_has_no_positions(client: Client, topic: str, open_stream: Open) -> None:
    stream = await open_stream(dispatch=api.Dispatch(reliable=False))
    assert not stream.opened.reliable
    receiving = client.receive(await client.subscribe(topic, "s"))
    await receiving.opened()
    for number in range(100):
        await stream.send(number + 1, payloads(number))
        assert await stream.stored(number + 1) == [(number + 1, 0)]
    got = await receiving.take(1)
    assert got[0].payload.isdigit()


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
async def test_compressed_batches_are_stored_as_the_messages_that_they_hold(
    client: Client, topic: str, open_stream: Open, compression: str
) -> None:
    stream = await open_stream()
    consumer = await client.subscribe(topic, "s")
    batch = batch_of([b"x" * 1000, b"y" * 1000])
    if compression == "zstd":
        batch.body = zstandard.ZstdCompressor().compress(batch.body)
        batch.compression = api.COMPRESSION_ZSTD
    else:
        batch.body = lz4.frame.compress(batch.body)
        batch.compression = api.COMPRESSION_LZ4
    await stream.send(1, batch)
    await stream.stored(2)
    got = await client.receive(consumer).take(2)
    assert [message.payload for message in got] == [b"x" * 1000, b"y" * 1000]


async def test_a_refused_batch_changes_nothing_and_later_ones_go_on(
    client: Client, topic: str, open_stream: Open
) -> None:
    stream = await open_stream(schema=api.Schema(type=api.Schema.JSON, definition=b'{"type":"object"}'))
    consumer = await client.subscribe(topic, "s")
    await stream.send(1, [b"{}", b"[]", b"{}"])
    refused = await stream.refused()
    assert (refused.first_sequence, refused.index) == (1, 1)
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "JSON schema" in refused.message
    await stream.send(4, [b'{"a":1}'])
    await stream.stored(4)
    assert (await client.receive(consumer).next()).payload == b'{"a":1}'


def _bad_batches() -> dict[str, api.Batch]:
    whole = batch_of(payloads(1, 2))
    wrong_crc = batch_of(payloads(1, 2))
    wrong_crc.crc32c ^= 1
    table = bytearray(whole.body)
    table[0] = 255
    v0_2_id = batch_of_body(body_of([b"\x08\x01" + message_of(b"x")]), 1)
    bomb = batch_of(payloads(1, 2))
    bomb.body = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    bomb.compression = api.COMPRESSION_ZSTD
    stranger = batch_of(payloads(1, 2))
    stranger.MergeFromString(b"\x20\x03")  # compression 3
    return {
        "a wrong checksum": wrong_crc,
        "a table that does not fit": batch_of_body(bytes(table), 2),
        "a field of a delivery": v0_2_id,
        "no protobuf": batch_of_body(body_of([b"\xff\xff"]), 1),
        "a bomb": bomb,
        "an unknown compression": stranger,
    }


@pytest.mark.parametrize("kind", _bad_batches())
async def test_a_batch_that_clients_could_not_read_is_refused(
    client: Client, topic: str, open_stream: Open, kind: str
) -> None:
    stream = await open_stream()
    consumer = await client.subscribe(topic, "s")
    batch = _bad_batches()[kind]
    await stream.send(1, batch)
    refused = await stream.refused()
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], refused
    await stream.send(1 + batch.messages, payloads(9))
    await stream.stored(1 + batch.messages)
    assert (await client.receive(consumer).next()).payload == b"9"


async def test_a_message_over_the_limit_refuses_its_batch(open_stream: Open) -> None:
    stream = await open_stream()
    await stream.send(1, [b"x" * (stream.opened.message_bytes_max + 1)])
    refused = await stream.refused()
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    await stream.send(2, [b"x" * stream.opened.message_bytes_max])
    await stream.stored(2)


async def test_sequences_that_go_back_end_the_stream(open_stream: Open) -> None:
    stream = await open_stream()
    await stream.send(1, payloads(1, 2))
    await stream.send(2, payloads(2))
    code, message = await stream.status()
    assert code == "INVALID_ARGUMENT"
    assert "sequence 2" in message


async def test_half_closing_answers_everything_and_ends_well(open_stream: Open) -> None:
    stream = await open_stream()
    for number in range(20):
        await stream.send(number + 1, payloads(number))
    await stream.done()
    await stream.stored(20)
    assert await stream.status() == ("OK", "")


async def test_a_topic_that_must_exist_is_not_created(open_stream: Open) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await open_stream(must_exist=True)
    assert refused.value.code().name == "NOT_FOUND"
    await open_stream()
    await open_stream("q", gateway=1, must_exist=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"schema": api.Schema(type=api.Schema.STRING)},
        {"dispatch": api.Dispatch(reliable=False)},
        {"dispatch": api.Dispatch(reliable=True, retention_period_s=60)},
        {"partitions": 2},
    ],
)
async def test_a_topic_that_exists_otherwise_is_refused(open_stream: Open, fields: dict[str, Any]) -> None:
    await open_stream(schema=api.Schema(type=api.Schema.INT64))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await open_stream("q", **fields)
    expected = "FAILED_PRECONDITION" if "partitions" in fields else "INVALID_ARGUMENT"
    assert refused.value.code().name == expected


async def test_a_stream_ends_when_its_topic_is_deleted(admin: Any, topic: str, open_stream: Open) -> None:
    stream = await open_stream()
    await admin.delete_topic(topic)

    async def publish() -> None:
        for number in itertools.count(1):
            await stream.send(number, payloads(number))
            await stream.stored(number)

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await publish()
    assert ended.value.code().name == "NOT_FOUND"


# Idempotent producers


async def test_a_batch_that_is_sent_again_is_stored_once(
    client: Client, topic: str, open_stream: Open
) -> None:
    """On another gateway, whether or not its answer had come."""
    consumer_topic = await open_stream(idempotent=True)
    consumer = await client.subscribe(topic, "s")
    for number in range(3):
        await consumer_topic.send(2 * number + 1, payloads(2 * number, 2 * number + 1))
    await consumer_topic.stored(6)
    again = await open_stream(gateway=1, idempotent=True)
    assert [part.last_sequence for part in again.opened.partitions] == [6]
    assert await consumer_topic.status() == ("ABORTED", "another client has opened the producer")
    for number in range(1, 4):
        await again.send(2 * number + 1, payloads(2 * number, 2 * number + 1))
    batches = await again.stored(8)
    assert [position == 0 for _, position in batches] == [True, True, False]
    got = await client.receive(consumer).take(8)
    assert [message.payload for message in got] == payloads(*range(8))


async def test_a_stream_that_an_earlier_one_has_overtaken_is_told_to_open_again(
    platform: Platform, open_stream: Open
) -> None:
    """The earlier stream's gateway was cut off from the bus, and did not hear that it was taken over."""
    stream = await open_stream(idempotent=True)
    await stream.send(1, payloads(1, 2))
    await stream.stored(2)
    topic_id = stream.opened.partitions[0].topic_id
    late = batch_of(payloads(3))
    section = RawSection(topic_id, late.messages, late.body, late.crc32c)
    gateway = IDEMPOTENT | sequence_key(topic_id, "p")
    connection = await nats.connect(platform.nats_url)
    try:
        jetstream = connection.jetstream()
        for found in await jetstream.streams_info():
            if (found.config.name or "").startswith("DANUBE_LOG_") and found.state.messages:
                subject = (found.config.subjects or [""])[0]
                last = await jetstream.get_last_msg(found.config.name or "", subject)
                if decode_frame(last.data or b"").gateway == gateway:
                    headers = {"Nats-Msg-Id": make_frame_id(gateway, 3)}
                    await jetstream.publish(subject, encode_section(gateway, 3, section), headers=headers)
                    break
        else:
            pytest.fail("the frame of the first batch is in no log")
    finally:
        await connection.close()
    await stream.send(3, payloads(3, 4))
    assert (await stream.status())[0] == "UNAVAILABLE"
    again = await open_stream(idempotent=True)
    assert [part.last_sequence for part in again.opened.partitions] == [3]


async def test_a_producer_that_starts_anew_learns_what_it_has_stored(open_stream: Open) -> None:
    """Each name and each partition by itself; another topic of the same name knows nothing."""
    stream = await open_stream("a", partitions=2, idempotent=True)
    await stream.send(1, payloads(1, 2, 3), 1)
    await stream.stored(3, 1)
    await stream.close()
    again = await open_stream("a", idempotent=True)
    assert [part.last_sequence for part in again.opened.partitions] == [0, 3]
    other = await open_stream("b", idempotent=True)
    assert [part.last_sequence for part in other.opened.partitions] == [0, 0]
    plain = await open_stream("a")
    assert [part.last_sequence for part in plain.opened.partitions] == [0, 0]


async def test_a_topic_made_anew_begins_with_the_first_sequence(
    admin: Any, topic: str, open_stream: Open
) -> None:
    """The log's duplicate window must not take its first messages for those of the deleted topic."""
    stream = await open_stream(idempotent=True)
    await stream.send(1, payloads(1))
    ((_, position),) = await stream.stored(1)
    await stream.close()
    await admin.delete_topic(topic)
    again = await open_stream(idempotent=True)
    assert [part.last_sequence for part in again.opened.partitions] == [0]
    await again.send(1, payloads(1))
    ((_, later),) = await again.stored(1)
    assert later > position


async def test_a_refused_batch_is_refused_again_when_it_is_sent_again(open_stream: Open) -> None:
    """Although later sequences were stored: its client must not take it for stored."""
    schema = api.Schema(type=api.Schema.INT64)
    stream = await open_stream(schema=schema, idempotent=True)
    await stream.send(1, [b"no number"])
    assert (await stream.refused()).first_sequence == 1
    await stream.send(2, payloads(2))
    await stream.stored(2)
    again = await open_stream(schema=schema, idempotent=True)
    assert again.opened.partitions[0].last_sequence == 2
    await again.send(1, [b"no number"])
    assert (await again.refused()).first_sequence == 1
    await again.send(2, payloads(2))
    assert await again.stored(2) == [(2, 0)]


async def test_other_boundaries_than_before_end_the_stream(open_stream: Open) -> None:
    stream = await open_stream(idempotent=True)
    await stream.send(1, payloads(1, 2))
    await stream.stored(2)
    again = await open_stream(idempotent=True)
    await again.send(2, payloads(2, 3))
    code, message = await again.status()
    assert (code, "sent again as it was" in message) == ("INVALID_ARGUMENT", True)


async def test_a_non_reliable_topic_has_no_idempotent_producers(open_stream: Open) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await open_stream(idempotent=True, dispatch=api.Dispatch(reliable=False))
    assert refused.value.code().name == "INVALID_ARGUMENT"


# Metadata


class Metadata:
    """The unary methods."""

    def __init__(self, addr: str) -> None:
        self._channel = grpc.aio.insecure_channel(addr)

    async def close(self) -> None:
        await self._channel.close(None)

    async def describe(self, topic: str) -> api.DescribeTopicResponse:
        request = api.DescribeTopicRequest(topic=topic).SerializeToString()
        return api.DescribeTopicResponse.FromString(await self._call("DescribeTopic", request))

    async def listed(self, pattern: str) -> list[tuple[str, int, bool]]:
        request = api.ListTopicsRequest(pattern=pattern).SerializeToString()
        found = api.ListTopicsResponse.FromString(await self._call("ListTopics", request))
        return [(each.topic, each.partitions, each.reliable) for each in found.topics]

    async def _call(self, method: str, request: bytes) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(f"/danube.stream.v1.Streaming/{method}", None, None)
        return await call(request, timeout=DEADLINE_S)


@pytest_asyncio.fixture
async def metadata(platform: Platform) -> AsyncIterator[Metadata]:
    called = Metadata(platform.gateway_addr)
    yield called
    await called.close()


async def test_a_topic_is_described_with_its_bounds(
    client: Client, metadata: Metadata, topic: str, open_stream: Open
) -> None:
    assert not (await metadata.describe(topic)).exists
    stream = await open_stream(schema=api.Schema(type=api.Schema.STRING))
    await stream.send(1, payloads(1, 2))
    ((_, position),) = await stream.stored(2)
    await client.consume(topic, "s")
    found = await metadata.describe(topic)
    assert (found.exists, found.partitioned, found.reliable) == (True, False, True)
    assert (found.schema.type, found.consumers, found.subscriptions) == (api.Schema.STRING, 1, 1)
    (bounds,) = found.topics
    assert (bounds.topic, bounds.topic_id) == (topic, stream.opened.partitions[0].topic_id)
    assert bounds.earliest_position <= position < position + 1 < bounds.end_position


async def test_topics_are_listed_by_pattern_with_their_partitions_counted(
    metadata: Metadata, topic: str, open_stream: Open
) -> None:
    await open_stream(at=f"{topic}_a", partitions=3)
    await open_stream(at=f"{topic}_b", dispatch=api.Dispatch(reliable=False))
    everything = [(f"{topic}_a", 3, True), (f"{topic}_b", 0, False)]
    assert await metadata.listed(f"{topic}*") == everything
    assert await metadata.listed(f"{topic}_?") == everything
    assert await metadata.listed(f"{topic}_b") == everything[1:]
    assert set(everything) <= set(await metadata.listed("default"))
    found = await metadata.describe(f"{topic}_a")
    assert [bounds.topic for bounds in found.topics] == [f"{topic}_a-part-{number}" for number in range(3)]
    assert found.partitioned
    with pytest.raises(grpc.aio.AioRpcError, match="namespace 'nowhere' does not exist") as missing:
        await metadata.listed("/nowhere/*")
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await metadata.listed("/default/[a]")
    assert refused.value.code().name == "INVALID_ARGUMENT"
