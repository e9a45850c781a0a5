"""Retention on the real platform, with short periods: what goes, what stays, and what the operator sees."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from danube_client import Reliable, Retention, Schema, Storage, connect
from danube_client.client import Client
from danube_client.errors import CallError
from danube_harness.platforms.admin_calls import ask_admin, describe_topic, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_current_pb2 as current
from danube_proto import danube_platform_pb2 as wire

PATIENCE_S = 60.0
MESSAGES = 20
SETTINGS = {
    # One of each: what is done for one topic was looked at for all.
    "DANUBE_ADMIN_BUNDLES_FILE": "1",
    "DANUBE_ADMIN_BUNDLES_MEMORY": "1",
    "DANUBE_STORAGE_SEAL_AGE_S": "1",
    "DANUBE_STORAGE_OWN_SEGMENT_BYTES_MIN": "1",
    "DANUBE_STORAGE_RETENTION_INTERVAL_S": "0.3",
    "DANUBE_STORAGE_DELETE_DELAY_S": "0.5",
}
CURRENT = (("x-danube-broker-url", "http://x:1/"),)
"""What clients of the current generation send with each call."""
DETAILS = "/danube_platform.TopicDetails"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), environment=SETTINGS) as running:
        yield running


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    async with connect(f"http://{platform.gateway_addr}") as client:
        yield client


async def publish(
    client: Client,
    topic: str,
    retention: Retention,
    *,
    storage: Storage = Storage.DISK,
    period_s: int = 3600,
    size_bytes: int = 100,
    count: int = MESSAGES,
) -> None:
    strategy = Reliable(storage, segment_size_mib=1, retention=retention, retention_period_s=period_s)
    async with client.producer(topic, name="writer", schema=Schema.bytes(), strategy=strategy) as producer:
        for number in range(count):
            await producer.post(number.to_bytes(4, "big") + bytes(size_bytes))
        await producer.flush()


async def subscribe(client: Client, topic: str, subscription: str) -> None:
    async with client.consumer(topic, subscription, name="reader"):
        pass


async def acknowledge(client: Client, topic: str, subscription: str) -> None:
    async with client.consumer(topic, subscription, name="reader") as consumer:
        for _ in range(MESSAGES):
            await (await anext(consumer)).ack()


def kept(described: wire.TopicDescription) -> int:
    """Messages in its own segments."""
    return sum(row.messages for row in described.segments)


async def test_what_expired_is_deleted_its_files_with_it_and_counts_as_lost(
    platform: Platform, client: Client
) -> None:
    topic = "/default/expiring"
    await publish(client, topic, Retention.UNTIL_EXPIRED, period_s=2, count=0)
    await subscribe(client, topic, "absent")
    await publish(client, topic, Retention.UNTIL_EXPIRED, period_s=2)
    described = await until_described(
        [platform.admin_addr], topic, lambda told: told.deleted.messages == MESSAGES
    )
    assert (kept(described), described.deleted.size_bytes > MESSAGES * 100) == (0, True)
    described = await until_described(
        [platform.admin_addr], topic, lambda told: told.subscriptions[0].lost == MESSAGES
    )
    assert (described.subscriptions[0].backlog, described.subscriptions[0].backlog_exact) == (0, True)
    found = [*(platform.data_dir / "segments").rglob(f"{described.topic_id:016x}/*")]
    assert found == []


async def test_what_one_subscription_has_not_acknowledged_stays_until_it_has(
    platform: Platform, client: Client
) -> None:
    topic = "/default/acknowledged"
    await publish(client, topic, Retention.UNTIL_ACKNOWLEDGED)
    await subscribe(client, topic, "early")
    await subscribe(client, topic, "late")
    await acknowledge(client, topic, "early")
    # It is still in its segments after other topics' were marked and deleted: retention has looked at it.
    await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    await publish(client, "/default/witness", Retention.UNTIL_EXPIRED, period_s=0)
    await until_described(
        [platform.admin_addr], "/default/witness", lambda told: told.deleted.messages == MESSAGES
    )
    assert kept(await describe_topic([platform.admin_addr], topic)) == MESSAGES
    await acknowledge(client, topic, "late")
    described = await until_described(
        [platform.admin_addr], topic, lambda told: told.deleted.messages == MESSAGES
    )
    assert kept(described) == 0


async def test_a_topic_over_its_size_loses_the_oldest_and_keeps_the_newest(
    platform: Platform, client: Client
) -> None:
    topic = "/default/large"
    await publish(client, topic, Retention.UNTIL_ACKNOWLEDGED, size_bytes=150_000)
    await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    policies = wire.SetTopicPoliciesRequest(topic=topic, policies=wire.Policies(max_retained_mb=1))
    method = "/danube_platform.PolicyAdmin/SetTopicPolicies"
    await ask_admin([platform.admin_addr], method, policies, wire.PoliciesResponse)

    def settled(told: wire.TopicDescription) -> bool:
        """What is marked, and neither kept nor deleted for a moment, is gone."""
        return told.deleted.messages > 0 and kept(told) + told.deleted.messages == MESSAGES

    described = await until_described([platform.admin_addr], topic, settled)
    assert 0 < sum(row.size_bytes for row in described.segments) <= 1 << 20


async def test_a_deleted_topics_files_go(platform: Platform, client: Client) -> None:
    topic = "/default/deleted"
    await publish(client, topic, Retention.UNTIL_ACKNOWLEDGED)
    described = await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    files = f"{described.topic_id:016x}/*"
    assert [*(platform.data_dir / "segments").rglob(files)]
    assert danube_admin(platform, "topics", "delete", topic, "--yes").returncode == 0
    async with asyncio.timeout(PATIENCE_S):
        while [*(platform.data_dir / "segments").rglob(files)]:  # noqa: ASYNC110 - a directory of another process
            await asyncio.sleep(0.1)


async def test_what_expired_in_memory_leaves_the_log_and_readers_go_on_behind_it(
    platform: Platform, client: Client
) -> None:
    topic, expired = "/default/volatile", Retention.UNTIL_EXPIRED
    await publish(client, topic, expired, storage=Storage.MEMORY, period_s=1, count=0)
    await subscribe(client, topic, "absent")
    await publish(client, topic, expired, storage=Storage.MEMORY, period_s=1)
    await until_described(
        [platform.admin_addr], topic, lambda told: 0 < told.log_last_sequence < told.log_first_sequence
    )
    async with client.consumer(topic, "absent", name="reader") as consumer:
        await publish(client, topic, expired, storage=Storage.MEMORY, period_s=1)
        async with asyncio.timeout(PATIENCE_S):
            assert (await anext(consumer)).payload[:4] == bytes(4)


async def test_the_operator_sees_it_on_the_command_line(platform: Platform, client: Client) -> None:
    topic = "/default/shown"
    await publish(client, topic, Retention.UNTIL_ACKNOWLEDGED)
    await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    described = shown(platform, "topics", "describe", topic)
    assert (described["storage"], described["retention"]) == ("disk", "ack")
    assert described["archiver"]
    segments = shown(platform, "topics", "segments", topic)
    assert sum(segment["messages"] for segment in segments) == MESSAGES
    assert {segment["topic"] for segment in segments} == {topic}
    assert f"Topic: {topic}\n" in danube_admin(platform, "topics", "describe", topic).stdout


async def test_clients_of_the_current_generation_see_segments_and_messages_by_the_same_offsets(
    platform: Platform, client: Client
) -> None:
    topic = "/default/offsets"
    await publish(client, topic, Retention.UNTIL_EXPIRED)
    await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    await publish(client, topic, Retention.UNTIL_EXPIRED)
    async with grpc.aio.insecure_channel(platform.gateway_addr) as channel:
        segments: list[tuple[int, int]] = []
        async with asyncio.timeout(PATIENCE_S):
            while not segments or segments[-1][1] < 2 * MESSAGES - 1:
                listed = await ask_current(
                    channel,
                    "StorageService/ListSegmentDescriptors",
                    current.ListSegmentDescriptorsRequest(topic=topic),
                    current.ListSegmentDescriptorsResponse,
                )
                segments = [(each.start_offset, each.end_offset) for each in listed.segments]
                await asyncio.sleep(0.1)
        assert segments[0][0] == 0
        assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(segments))
        after = current.ListSegmentDescriptorsRequest(topic=topic, after_offset=segments[0][1])
        rest = await ask_current(
            channel, "StorageService/ListSegmentDescriptors", after, current.ListSegmentDescriptorsResponse
        )
        assert [each.start_offset for each in rest.segments] == [first for first, _ in segments[1:]]
        subscribe = current.ConsumerRequest(topic_name=topic, consumer_name="c", subscription="old")
        found = await ask_current(channel, "ConsumerService/Subscribe", subscribe, current.ConsumerResponse)
        await publish(client, topic, Retention.UNTIL_EXPIRED, count=3)  # from the log, or live
        request = current.ReceiveRequest(consumer_id=found.consumer_id).SerializeToString()
        receive: Any = channel.unary_stream("/danube.ConsumerService/ReceiveMessages", None, None)
        stream = receive(request, metadata=CURRENT)
        offsets: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(offsets) < 2 * MESSAGES + 3:
                message = current.StreamMessage.FromString(await stream.read())
                offsets.append(message.msg_id.topic_offset)
        stream.cancel()
    assert offsets == [*range(2 * MESSAGES + 3)]


async def ask_current(channel: grpc.aio.Channel, method: str, request: Any, response: Any) -> Any:
    """Call as a client of the current generation."""
    call: Any = channel.unary_unary(f"/danube.{method}", None, response.FromString)
    return await call(request.SerializeToString(), metadata=CURRENT, timeout=PATIENCE_S)


async def test_a_subscription_that_was_reset_gets_the_last_messages_again(
    platform: Platform, client: Client
) -> None:
    topic = "/default/again"
    await publish(client, topic, Retention.UNTIL_EXPIRED)
    await subscribe(client, topic, "reader")
    await acknowledge(client, topic, "reader")
    await until_described([platform.admin_addr], topic, lambda told: kept(told) == MESSAGES)
    (place,) = shown(platform, "subscriptions", "reset", topic, "reader", "--to", "-5", "--yes")
    assert place["topic"] == topic
    async with client.consumer(topic, "reader", name="reader") as consumer:
        again = [int.from_bytes((await anext(consumer)).payload[:4], "big") for _ in range(5)]
    assert again == list(range(MESSAGES - 5, MESSAGES))


@pytest.mark.parametrize(("asked", "storage"), [(None, "disk"), (Storage.MEMORY, "memory")])
async def test_a_topic_lives_where_its_creator_says_else_where_the_platform_does(
    platform: Platform, client: Client, asked: Storage | None, storage: str
) -> None:
    topic = f"/default/in-{asked}".replace(".", "-")
    # A short period: the log of the only memory bundle goes no further than this topic lets it.
    strategy = Reliable(asked, retention_period_s=1)
    async with client.producer(topic, name="writer", schema=Schema.bytes(), strategy=strategy):
        assert (await describe_topic([platform.admin_addr], topic)).storage == storage


async def test_a_topic_in_s3_is_refused_where_nothing_can_keep_it(client: Client) -> None:
    producer = client.producer(
        "/default/s3", name="writer", schema=Schema.bytes(), strategy=Reliable(Storage.S3)
    )
    with pytest.raises(CallError, match="no storage instance has S3 configured"):
        await producer.open()


def danube_admin(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    endpoint = ("--endpoint", f"http://{platform.admin_addr}")
    command = [sys.executable, "-m", "danube_admin_cli", *arguments, *endpoint]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shown(platform: Platform, *arguments: str) -> Any:
    ended = danube_admin(platform, *arguments, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
