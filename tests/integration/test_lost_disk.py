"""A storage instance that is gone for good with its disk, and a byte that rots where nobody reads."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from danube_client import Reliable, Retention, Schema, Storage, connect
from danube_client.client import Client
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.cluster import ClusterPlatform
from danube_proto import danube_platform_pb2 as wire

TOPIC = "/default/kept"
MESSAGES = 300
PATIENCE_S = 90.0
FLAGS = {
    "storage": (
        *("--replicas", "2", "--replica-absent-s", "2"),
        *("--seal-age-s", "1", "--own-segment-bytes-min", "1"),
        *("--scrub-period-s", "5"),
    )
}
COUNTS = {"admin": 1, "topic-owner": 1, "gateway": 1, "storage": 3}


@pytest_asyncio.fixture
async def platform(tmp_path: Path) -> AsyncIterator[ClusterPlatform]:
    async with ClusterPlatform.run(tmp_path, COUNTS, flags=FLAGS, etcd_members=1) as platform:
        await platform.until_settled()
        yield platform


async def publish(client: Client) -> None:
    strategy = Reliable(Storage.DISK, segment_size_mib=1, retention=Retention.UNTIL_ACKNOWLEDGED)
    async with client.producer(TOPIC, name="writer", schema=Schema.bytes(), strategy=strategy) as producer:
        # A subscription that acknowledges nothing keeps everything.
        async with client.consumer(TOPIC, "absent", name="reader"):
            pass
        for number in range(MESSAGES):
            await producer.post(number.to_bytes(4, "big") + bytes(2000))
        await producer.flush()


async def read_all(client: Client, subscription: str) -> None:
    """Read everything as a new subscription does; nothing fails or is missing."""
    async with asyncio.timeout(PATIENCE_S), client.consumer(TOPIC, subscription, name="reader") as consumer:
        for number in range(MESSAGES):
            message = await anext(consumer)
            assert message.payload[:4] == number.to_bytes(4, "big")
            await message.ack()


async def segments(platform: ClusterPlatform) -> Sequence[wire.Segment]:
    request = wire.ListSegmentsRequest(topic=TOPIC)
    method = "/danube_platform.TopicDetails/ListSegments"
    answer = await ask_admin(platform.admin_addrs, method, request, wire.ListSegmentsResponse)
    return answer.segments


async def until(platform: ClusterPlatform, matches: Callable[[wire.Segment], bool]) -> Sequence[wire.Segment]:
    """Wait until all messages are in segments that match."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await segments(platform)
            if sum(one.messages for one in found) == MESSAGES and all(map(matches, found)):
                return found
            await asyncio.sleep(0.2)


def file_of(platform: ClusterPlatform, instance_id: str, key: str) -> Path:
    (archive,) = (platform.directory / "segments").iterdir()
    return archive / instance_id / key


@pytest.mark.acceptance
@pytest.mark.timeout(240)
async def test_a_lost_disk_and_a_rotten_byte_end_with_all_copies_again_and_readers_never_fail(
    platform: ClusterPlatform,
) -> None:
    async with connect(platform.gateway_urls[0]) as client:
        await publish(client)
        found = await until(platform, lambda one: len(one.holders) == 2)
        before = {one.key: file_of(platform, one.holders[0], one.key).read_bytes() for one in found}

        rotten = found[0]
        file = file_of(platform, rotten.holders[0], rotten.key)
        damaged = bytearray(before[rotten.key])
        damaged[len(damaged) // 3] ^= 4
        file.write_bytes(damaged)
        async with asyncio.timeout(PATIENCE_S):
            while file.read_bytes() != before[rotten.key]:  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.1)
        await until(platform, lambda one: not one.quarantined)

        lost = found[0].holders[0]
        assert await platform.instance(lost).stop() == 0
        shutil.rmtree(file_of(platform, lost, ""))
        mended = asyncio.create_task(
            until(platform, lambda one: len(one.holders) == 2 and lost not in one.holders)
        )
        reads = 0
        while not mended.done():
            await read_all(client, f"reader-{reads}")
            reads += 1
        for one in await mended:
            for holder in one.holders:
                assert file_of(platform, holder, one.key).read_bytes() == before[one.key]
        await read_all(client, "afterwards")
        assert reads > 0
