"""Faust over Danube topics and in memory, and the recovery of a table. See `make bench-faust`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import faust
import pytest
from faust.types import TP

from danube_client import Producer, connect
from danube_faust.names import Names
from danube_faust.tables.compaction import compact
from danube_faust.topics import Topics
from danube_harness.platforms.standalone import Platform

EVENTS = int(os.environ.get("DANUBE_BENCH_MESSAGES", "50000"))
KEYS = 100_000
PARTITIONS = 4
COMPACTED_KEYS = 10_000
CHANGES = 20
"""Of each of these keys."""
WARM_UP = 1000
"""Events that are not measured."""
POLL_S = 0.05
SHARE_MIN = 0.2
"""An agent over Danube does at least so many events a second of CPU as over memory."""
KEY_MAX_US = 200
"""CPU of a worker for each key that it recovers, at most, on any machine."""

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Spent(NamedTuple):
    """Time on the clock, and CPU of this process, which is the worker."""

    wall_s: float
    cpu_s: float

    def shown(self, count: int, what: str) -> str:
        """Return the figures as a line."""
        return (
            f"{self.wall_s:.1f} s, {count / self.wall_s:.0f} {what}/s;"
            f" CPU {self.cpu_s:.1f} s, {self.cpu_s / count * 1e6:.0f} us each"
        )


class Counter:
    """Counts events, and measures all but the first ones."""

    def __init__(self) -> None:
        self.seen = 0
        self.done = asyncio.Event()
        self._began = 0.0, 0.0

    def add(self) -> None:
        """Note one event."""
        self.seen += 1
        if self.seen == WARM_UP:
            self._began = time.perf_counter(), time.process_time()
        if self.seen == EVENTS:
            self.spent = Spent(time.perf_counter() - self._began[0], time.process_time() - self._began[1])
            self.done.set()


def app_of(name: str, platform: Platform, directory: Path) -> faust.App:
    return faust.App(
        name,
        broker=f"danube://{platform.gateway_addr}",
        topic_partitions=PARTITIONS,
        table_standby_replicas=0,
        datadir=str(directory / name),
        web_enabled=False,
    )


async def fill(
    platform: Platform, topic: str, post: Callable[[Producer, int], Awaitable[Any]], count: int
) -> None:
    async with (
        connect(f"http://{platform.gateway_addr}", streaming=True) as client,
        client.producer(topic, partitions=PARTITIONS) as producer,
    ):
        for number in range(count):
            await post(producer, number)
        await producer.flush()


async def test_events_through_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Platform.run(tmp_path / "platform") as platform:
        await fill(
            platform,
            "/default/bench-events",
            lambda producer, number: producer.post(b"%d" % number, key=f"k{number % 1000}"),
            EVENTS,
        )
        app = app_of("bench", platform, tmp_path)
        topic = app.topic("bench-events", key_type=str, value_type=int)  # type: ignore[arg-type]
        channel = app.channel(key_type=str, value_type=int)  # type: ignore[arg-type]
        over_danube, in_memory = Counter(), Counter()

        @app.agent(topic)
        async def from_topic(stream: Any) -> None:
            async for _ in stream:
                over_danube.add()

        @app.agent(channel)
        async def from_memory(stream: Any) -> None:
            async for _ in stream:
                in_memory.add()

        async with app:
            await over_danube.done.wait()
            for number in range(EVENTS):
                await channel.send(key=f"k{number % 1000}", value=number)
            await in_memory.done.wait()
    measured = EVENTS - WARM_UP
    with capsys.disabled():
        print(f"\nover Danube: {over_danube.spent.shown(measured, 'events')}")
        print(f"in memory:   {in_memory.spent.shown(measured, 'events')}")
        print(f"load {os.getloadavg()[0]:.0f}")
    assert over_danube.spent.cpu_s * SHARE_MIN < in_memory.spent.cpu_s


async def test_recovery_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Platform.run(tmp_path / "platform") as platform:
        await fill(
            platform,
            "/default/recovery-totals-changelog",
            lambda producer, number: producer.post(b"%d" % number, key=json.dumps(f"customer-{number}")),
            KEYS,
        )
        app = app_of("recovery", platform, tmp_path)
        table = app.Table("totals", default=int)

        @app.agent(app.topic("recovery-source", value_type=int))  # type: ignore[arg-type]
        async def write(stream: Any) -> None:
            async for number in stream:
                table[str(number)] = number

        began = time.perf_counter(), time.process_time()
        async with app:
            while not app.tables.actives_ready:  # noqa: ASYNC110 - no event
                await asyncio.sleep(POLL_S)
            spent = Spent(time.perf_counter() - began[0], time.process_time() - began[1])
            assert len(table) == KEYS
    with capsys.disabled():
        print(f"\nrecovery: {spent.shown(KEYS, 'keys')}; load {os.getloadavg()[0]:.0f}")
    assert spent.cpu_s * 1e6 < KEY_MAX_US * KEYS


async def test_recovery_of_a_table_whose_changelog_is_compacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of so many keys changed CHANGES times: the recovery before a snapshot and after it, in turn."""
    changelog = "compacted-totals-changelog"
    with Platform.run(tmp_path / "platform") as platform:
        await fill(
            platform,
            f"/default/{changelog}",
            lambda producer, number: producer.post(
                b"%d" % number, key=json.dumps(f"customer-{number % COMPACTED_KEYS}")
            ),
            COMPACTED_KEYS * CHANGES,
        )
        spent = {"before": await recovered(platform, tmp_path)}
        began = time.perf_counter(), time.process_time()
        async with connect(f"http://{platform.gateway_addr}", streaming=True) as client:
            topics = Topics(client, Names())
            await topics.find(changelog)
            for number in range(PARTITIONS):
                await compact(client, topics, TP(changelog, number))
        spent["compaction"] = Spent(time.perf_counter() - began[0], time.process_time() - began[1])
        spent["after"] = await recovered(platform, tmp_path)
        shown = [f"{name}: {one.wall_s:.1f} s, CPU {one.cpu_s:.1f} s" for name, one in spent.items()]
    with capsys.disabled():
        print(f"\n{COMPACTED_KEYS} keys, {CHANGES} changes of each; load {os.getloadavg()[0]:.0f}")
        print("\n".join(shown))
    assert spent["after"].cpu_s < spent["before"].cpu_s / 2


async def recovered(platform: Platform, directory: Path) -> Spent:
    """Start a worker; return what it took until its table was back."""
    app = app_of("compacted", platform, directory)
    table = app.Table("totals", default=int)

    @app.agent(app.topic("compacted-source", value_type=int))  # type: ignore[arg-type]
    async def write(stream: Any) -> None:
        async for number in stream:
            table[str(number)] = number

    began = time.perf_counter(), time.process_time()
    async with app:
        while not app.tables.actives_ready:  # noqa: ASYNC110 - no event
            await asyncio.sleep(POLL_S)
        spent = Spent(time.perf_counter() - began[0], time.process_time() - began[1])
        assert len(table) == COMPACTED_KEYS
    return spent
