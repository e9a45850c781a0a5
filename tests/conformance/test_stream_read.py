"""Read of native streaming (docs/wire/stream.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from tests.conformance.client import Client

from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.publish_stream import PublishStream
from danube_harness.traffic.read_stream import ReadStream
from danube_proto import danube_stream_pb2 as api

Send = Callable[..., Awaitable[list[int]]]
Read = Callable[..., ReadStream]
START = api.Start


@pytest_asyncio.fixture
async def send(platform: Platform, topic: str) -> AsyncIterator[Send]:
    """Publishes numbers in batches of ten and returns their positions."""
    stream = await PublishStream.open(platform.gateway_addr, topic, "p")
    sent = 0

    async def send_all(count: int) -> list[int]:
        nonlocal sent
        positions: list[int] = []
        while count:
            part = min(count, 10)
            await stream.send(sent + 1, [b"%d" % number for number in range(sent, sent + part)])
            ((_, first),) = await stream.stored(sent + part)
            positions += range(first, first + part)
            sent, count = sent + part, count - part
        return positions

    yield send_all
    await stream.close()


@pytest_asyncio.fixture
async def read(platform: Platform, topic: str) -> AsyncIterator[Read]:
    """Reads the test's topic, through the gateway that did not take the messages."""
    streams: list[ReadStream] = []

    def open_one(at: str = topic, **fields: Any) -> ReadStream:
        streams.append(ReadStream.open(platform.gateway_addrs[1], at, **fields))
        return streams[-1]

    yield open_one
    for stream in streams:
        await stream.close()


def payloads(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


async def test_a_reading_returns_everything_with_its_positions_and_ends(send: Send, read: Read) -> None:
    positions = await send(35)
    reading = read()
    got = await reading.rest()
    assert [position for position, _ in got] == positions
    assert reading.offsets == list(range(35))
    assert [payload for _, payload in got] == payloads(0, 35)


@pytest.mark.parametrize("compression", [api.COMPRESSION_ZSTD, api.COMPRESSION_LZ4])
async def test_batches_are_compressed_as_the_reader_accepts(
    send: Send, read: Read, compression: api.Compression
) -> None:
    await send(3)
    assert [payload for _, payload in await read(compressions=[compression]).rest()] == payloads(0, 3)


async def test_a_reading_begins_and_ends_where_it_is_told(send: Send, read: Read) -> None:
    positions = await send(30)

    async def got(kind: api.Start.Kind, value: int = 0, **fields: Any) -> list[bytes]:
        found = await read(start=START(kind=kind, value=value), **fields).rest()
        return [payload for _, payload in found]

    assert await got(START.POSITION, positions[15]) == payloads(15, 30)
    assert await got(START.POSITION, positions[15], end_position=positions[21]) == payloads(15, 22)
    assert await got(START.LAST, 4) == payloads(26, 30)
    assert await got(START.LATEST) == []
    assert await got(START.TIME, 1) == payloads(0, 30)
    assert await got(START.EARLIEST, messages_max=12) == payloads(0, 12)


async def test_a_reading_that_follows_goes_on_with_what_is_published_later(send: Send, read: Read) -> None:
    await send(5)
    reading = read(follow=True)
    assert [payload for _, payload in await reading.take(5)] == payloads(0, 5)
    await send(3)
    assert [payload for _, payload in await reading.take(3)] == payloads(5, 8)


async def test_a_follower_ends_behind_the_position_it_names(send: Send, read: Read) -> None:
    positions = await send(5)
    reading = read(follow=True, start=START(kind=START.LATEST), messages_max=4)
    await reading.begun()
    await send(9)
    assert len(await reading.rest()) == 4
    assert len(await read(follow=True, end_position=positions[2]).rest()) == 3


async def test_reading_makes_no_subscription_and_moves_no_cursor(
    client: Client, send: Send, read: Read, topic: str
) -> None:
    consumer = await client.subscribe(topic, "s")
    await send(3)
    await read().rest()
    got = await client.receive(consumer).take(3)
    assert [message.payload for message in got] == payloads(0, 3)


async def test_what_cannot_be_read_is_refused(client: Client, send: Send, read: Read, topic: str) -> None:
    async def status(**fields: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await read(**fields).rest()
        return refused.value.code()

    await send(1)
    assert await status(at=f"{topic}-none") is grpc.StatusCode.NOT_FOUND
    assert await status(at="no-name") is grpc.StatusCode.INVALID_ARGUMENT
    assert await status(start=START(kind=START.LAST)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await status(compressions=[9]) is grpc.StatusCode.INVALID_ARGUMENT
    await client.producer(f"{topic}-fast", "p")
    assert await status(at=f"{topic}-fast") is grpc.StatusCode.INVALID_ARGUMENT
