from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import faust
import pytest
from tests.streams.test_app import until

from danube_client import Start, SubscriptionType, connect
from danube_client.testing.platform import LocalPlatform
from danube_faust.producer import Producer, Released

pytestmark = [
    pytest.mark.server,
    pytest.mark.acceptance,
    pytest.mark.timeout(60),
    # Of Faust and its libraries.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def app_of(name: str, platform: LocalPlatform, directory: Path) -> tuple[faust.App, Any, Any]:
    """Return an app, its table of sums, and the topic of what is added."""
    app = faust.App(
        name,
        broker=platform.url.replace("http", "danube"),
        topic_partitions=1,
        table_standby_replicas=0,
        broker_commit_interval=0.2,
        datadir=str(directory),
        web_enabled=False,
        stream_wait_empty=False,
    )
    table = app.Table("sums", default=int)
    orders = app.topic(f"{name}-orders", key_type=str, value_type=int)  # type: ignore[arg-type]

    @app.agent(orders)
    async def add(stream: Any) -> None:
        async for key, value in stream.items():
            table[key] += value

    return app, table, orders


async def test_a_worker_whose_partition_another_one_writes_cannot_write_its_changelog_nor_commit(
    danube_platform: LocalPlatform, tmp_path: Path
) -> None:
    app, table, orders = app_of("fenced", danube_platform, tmp_path)
    async with connect(danube_platform.url, streaming=True) as client:
        async with app:
            await orders.send(key="ann", value=1)
            await until(lambda: table["ann"] == 1)
            await until(lambda: not app.consumer.unacked)
            await app.consumer.commit()

            changelog = "/default/fenced-sums-changelog-part-0"
            async with client.producer(changelog, name="fenced-changelog-writer") as newer:
                await newer.send(b"7", key='"ann"')
            await orders.send(key="ann", value=2)
            await until(lambda: app.crash_reason is not None)
            assert "another client has opened the producer" in str(app.crash_reason)

        async with client.reader(changelog) as reader:
            assert [message.payload async for message in reader] == [b"1", b"7"]
        async with client.consumer(
            "/default/fenced-orders", "fenced", type=SubscriptionType.FAILOVER
        ) as consumer:
            async with asyncio.timeout(30):
                assert (await consumer.receive()).text == "2"


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("mismatch", None, "topics create /default/mismatch-orders --partitions 3"),
        ("overruled", 1, "has 1 partitions, but the changelog"),
    ],
)
async def test_a_worker_stops_before_it_passes_over_messages_of_a_topic_with_too_few_partitions(
    danube_platform: LocalPlatform, tmp_path: Path, name: str, asked: int | None, reason: str
) -> None:
    app = faust.App(
        name,
        broker=danube_platform.url.replace("http", "danube"),
        topic_partitions=3,
        broker_commit_interval=0.2,
        datadir=str(tmp_path),
        web_enabled=False,
        stream_wait_empty=False,
    )
    table = app.Table("sums", default=int)

    @app.agent(app.topic(f"{name}-orders", key_type=str, value_type=int, partitions=asked))  # type: ignore[arg-type]
    async def add(stream: Any) -> None:
        async for key, value in stream.items():
            table[key] += value

    async with connect(danube_platform.url, streaming=True) as client:
        async with client.producer(f"/default/{name}-orders") as producer:
            for value in (1, 2):
                await producer.send(b"%d" % value, key="ann")
        async with app:
            await until(lambda: app.crash_reason is not None)
            assert reason in str(app.crash_reason)
        async with client.consumer(
            f"/default/{name}-orders", name, type=SubscriptionType.FAILOVER, initial_position=Start.earliest()
        ) as consumer:
            async with asyncio.timeout(30):
                assert [(await consumer.receive()).text for _ in range(2)] == ["1", "2"]


async def test_what_an_agent_still_writes_of_a_partition_that_went_does_not_end_the_next_ones_writer(
    danube_platform: LocalPlatform, tmp_path: Path
) -> None:
    app, _, _ = app_of("revoked", danube_platform, tmp_path)
    async with connect(danube_platform.url, streaming=True) as client, app:
        await until(lambda: app.tables.actives_ready)
        changelog = "/default/revoked-sums-changelog-part-0"
        producer = cast("Producer", app.producer)
        await producer.release(set())
        async with client.producer(changelog, name="revoked-changelog-writer") as newer:
            with pytest.raises(Released):
                await producer.send("revoked-sums-changelog", b'"ann"', b"1", 0, None, None)
            await newer.send(b"7", key='"ann"')
        assert producer.failure is None
        async with client.reader(changelog) as reader:
            assert [message.payload async for message in reader] == [b"7"]


async def test_a_worker_that_has_written_nothing_yet_cannot_write_after_a_later_one(
    danube_platform: LocalPlatform, tmp_path: Path
) -> None:
    app, _, orders = app_of("late", danube_platform, tmp_path)
    async with connect(danube_platform.url, streaming=True) as client, app:
        await until(lambda: app.tables.actives_ready)
        changelog = "/default/late-sums-changelog-part-0"
        async with client.producer(changelog, name="late-changelog-writer") as newer:
            await newer.send(b"7", key='"ann"')
            await orders.send(key="ann", value=1)
            await until(lambda: app.crash_reason is not None)
            await newer.send(b"8", key='"ann"')
        async with client.reader(changelog) as reader:
            assert [message.payload async for message in reader] == [b"7", b"8"]
