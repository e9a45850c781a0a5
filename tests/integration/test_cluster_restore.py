"""A cluster with etcd and NATS loses every data directory, and comes back from a backup made under load."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from danube_admin_cli.__main__ import app
from danube_client import Reliable, Retention, Start, Storage, connect
from danube_harness.platforms.admin_calls import describe_topic
from danube_harness.platforms.cluster import ClusterPlatform
from danube_harness.traffic.clients import EXCLUSIVE, KEPT_S, SHARED, Reading, Topic, payload, receipt
from danube_harness.traffic.history import Receipt, check
from danube_harness.traffic.load import Load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

COUNTS = {"admin": 1, "topic-owner": 2, "storage": 2, "gateway": 2}
FLAGS = {"storage": ("--replicas", "2", "--seal-age-s", "1", "--own-segment-bytes-min", "1")}
KEPT = Reliable(Storage.DISK, 1, Retention.UNTIL_EXPIRED, KEPT_S)
TOPICS = (
    Topic("/default/orders", KEPT, (EXCLUSIVE, SHARED), writers=2, per_s=30.0),
    Topic("/default/streams", KEPT, (EXCLUSIVE,), writers=2, per_s=30.0, streaming=True),
)
SEGMENTS_MIN = 3
"""Of each topic, before the backup."""
JOURNALED = 60
"""So many messages later an acknowledgement is long in the journal."""
POLL_S = 0.1
PATIENCE_S = 90.0
END = "end"


async def told(admin_addr: str, *arguments: str) -> Mapping[str, Any]:
    """What a command says as JSON; it must succeed."""
    words = [*arguments, "-o", "json", "--endpoint", f"http://{admin_addr}"]
    ended = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert ended.exit_code == 0, ended.stderr
    answer: Mapping[str, Any] = json.loads(ended.stdout)
    return answer


async def until_archived(platform: ClusterPlatform) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            described = [await describe_topic(platform.admin_addrs, topic.name) for topic in TOPICS]
            if all(sum(one.segments for one in topic.segments) >= SEGMENTS_MIN for topic in described):
                return
            await asyncio.sleep(POLL_S)  # archiving is an event of other processes


async def until_received(load: Load, more: int) -> None:
    """Wait until each subscription has received so many messages more."""
    before = {one.name: len(one.progressed_at) for one in load.subscriptions}
    async with asyncio.timeout(PATIENCE_S):
        for one in load.subscriptions:
            while len(one.progressed_at) < before[one.name] + more:
                await one.until_changed()


async def publish_end(urls: Sequence[str]) -> None:
    for topic in TOPICS:
        async with (
            connect(*urls) as client,
            client.producer(topic.name, name=END, strategy=topic.strategy) as producer,
        ):
            await producer.send(payload(END, 1, topic.bytes_max))


async def read_to_the_end(urls: Sequence[str], topic: Topic, reading: Reading) -> list[Receipt]:
    """Read and acknowledge what a subscription still gets; a new one gets everything."""
    found: list[Receipt] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        connect(*urls, streaming=topic.streaming) as client,
        client.consumer(
            topic.name,
            reading.name,
            name="after",
            type=reading.type,
            initial_position=Start.earliest(),
        ) as consumer,
    ):
        while not found or found[-1][0] != END:
            message = await anext(consumer)
            found.append(receipt(message.payload, topic.bytes_max))
            await message.ack()
    return found[:-1]


async def test_a_cluster_that_lost_all_data_directories_is_restored_with_its_whole_history(
    tmp_path: Path,
) -> None:
    backups = str(tmp_path / "backups")
    first, second = tmp_path / "first", tmp_path / "second"
    async with (
        ClusterPlatform.run(first, COUNTS, flags=FLAGS, etcd_members=1) as platform,
        Load.run(platform.gateway_urls, TOPICS) as load,
    ):
        await until_archived(platform)
        settled = {one.name: set(one._got) for one in load.subscriptions}
        await until_received(load, JOURNALED)
        stored = {writer.name: set(writer.acknowledged) for writer in load.writers}
        made = await told(platform.admin_addrs[0], "backup", "create", backups)
        await load.until_flowing()
        sent = {writer.name: range(1, writer.sent + 1) for writer in load.writers}
        received = {one.name: set(one._got) for one in load.subscriptions}
    shutil.rmtree(first)
    assert made["segments_copied"] >= SEGMENTS_MIN * len(TOPICS)
    assert made["segments_in_s3"] == 0

    async with (
        ClusterPlatform.run(second, {}, flags=FLAGS, etcd_members=1) as platform,
        AsyncExitStack() as stack,
    ):
        holder = await platform.place("storage")
        restorer = await platform.add(
            "admin",
            *("--restore-enabled", "true", "--restore-holder", holder.instance_id),
            *("--restore-segments-dir", str(platform.directory / "segments")),
        )
        stack.push_async_callback(restorer.kill)
        assert (await told(restorer.grpc_addr, "backup", "restore", backups, "--yes"))["records"] > 0
        await restorer.stop()
        kinds = ("admin", "topic-owner", "topic-owner", "gateway", "gateway", "storage")
        placed = [await platform.place(kind) for kind in kinds]
        await asyncio.gather(holder.start(), *(one.start() for one in placed))
        urls = platform.gateway_urls
        await publish_end(urls)
        for topic in TOPICS:
            of_topic = {name: numbers for name, numbers in sent.items() if topic.name.endswith(name[:-2])}
            answered = {name: stored[name] for name in of_topic}
            everything = await read_to_the_end(urls, topic, Reading("new", EXCLUSIVE.type))
            report = check(of_topic, {"new": everything}, answered)
            assert report.ok, report.text()
            assert not report.duplicated, report.text()
            assert not report.reordered, report.text()
            for reading in topic.readings:
                name = f"{topic.name} {reading.name}"
                again = await read_to_the_end(urls, topic, reading)
                assert not settled[name] & set(again), f"{name} got again what it had acknowledged"
                both = check(of_topic, {"before": received[name], "after": again}, answered)
                assert both.ok, both.text()
