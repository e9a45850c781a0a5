from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.streams import history
from tests.streams.history import ENDLESS, PARTITIONS, TOPIC, Span
from tests.streams.worker import FaustWorker

from danube_client import Producer, connect
from danube_harness.platforms.standalone import Platform

KEYS = [f"k{number}" for number in range(24)]
"""Enough that each partition has some."""
PACE_S = 0.02
TAKEOVER_MAX_S = 10.0
PAUSE_S = 8.0
"""Long enough that the other worker counts the paused one as gone. The platform does not."""
POLL_S = 0.1


class Numbers:
    """Publishes numbers, key by key in turn, and knows how many each key has."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._numbers = itertools.count()
        self.sent: Counter[str] = Counter()

    async def send(self) -> None:
        number = next(self._numbers)
        key = KEYS[number % len(KEYS)]
        await self._producer.send(str(number), key=key)
        self.sent[key] += 1

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Publish while the block runs."""

        async def flow() -> None:
            while not stopped:
                await self.send()
                await asyncio.sleep(PACE_S)

        stopped = False
        task = asyncio.create_task(flow())
        try:
            yield
        finally:
            stopped = True
            await task


async def until_counted(worker: FaustWorker, numbers: Numbers) -> None:
    """Return once the table is right: each number counted once, asked at one worker for all."""
    for key, count in numbers.sent.items():
        while await worker.get(f"/counts/{key}/") != {"count": count}:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)


async def until_worked(directory: Path, pid: int, since: float, partitions: set[int]) -> dict[int, float]:
    """Return when others than a process began with its partitions after a moment, once all have."""
    while True:
        began: dict[int, float] = {}
        for what, other, at, *facts in history.read(directory):
            if what == "begin" and other != pid and at > since and facts[0] in partitions:
                began.setdefault(facts[0], at)
        if began.keys() == partitions:
            return began
        await asyncio.sleep(POLL_S)


def has(directory: Path, pid: int) -> set[int]:
    """Return what a worker has."""
    return {
        span.partition
        for span in history.held(history.read(directory), {})
        if span.pid == pid and span.end == ENDLESS
    }


async def until_shared(directory: Path, workers: list[FaustWorker]) -> None:
    """Return once these workers have all partitions, and each of them some."""
    while True:
        having = [has(directory, worker.pid) for worker in workers]
        if all(having) and sum(map(len, having)) == PARTITIONS:
            return
        await asyncio.sleep(POLL_S)


@pytest.mark.server
@pytest.mark.acceptance
@pytest.mark.timeout(900)
async def test_no_two_workers_have_a_partition_and_the_table_is_right_after_each_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: dict[int, float] = {}
    with Platform.run(
        tmp_path / "platform", arguments=("--gateways", "2", "--gateway-ports", "each")
    ) as platform:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                connect(*(f"http://{addr}" for addr in platform.gateway_addrs), streaming=True)
            )
            producer = await stack.enter_async_context(
                client.producer(f"/default/{TOPIC}", partitions=PARTITIONS)
            )
            numbers = Numbers(producer)
            first, second, third = (
                FaustWorker(name, tmp_path, "tests.streams.history_app", platform.gateway_addrs)
                for name in ("first", "second", "third")
            )
            for worker in (first, second):
                await worker.start()
                stack.push_async_callback(worker.kill)
            await until_shared(tmp_path, [first, second])

            # A worker is killed.
            async with numbers.flowing():
                killed, partitions, since = first.pid, has(tmp_path, first.pid), time.monotonic()
                await first.kill()
                ended[killed] = time.monotonic()
                began = await until_worked(tmp_path, killed, since, partitions)
            takeover_s = max(began.values()) - since
            await until_counted(second, numbers)

            # A worker joins.
            async with numbers.flowing():
                await third.start()
                stack.push_async_callback(third.kill)
                await until_shared(tmp_path, [second, third])
            await until_counted(third, numbers)

            # A worker stands still, and goes on.
            async with numbers.flowing():
                second.pause()
                await asyncio.sleep(PAUSE_S)
                second.resume()
            await until_counted(third, numbers)

            # The gateway and the owners die.
            for name in ("gateway", "topic-owner"):
                async with numbers.flowing():
                    await asyncio.to_thread(platform.kill, name)
                    await numbers.send()
                await until_counted(third, numbers)

            for worker in (second, third):
                assert worker.running, worker.output
                pid = worker.pid
                await worker.kill()
                ended[pid] = time.monotonic()
    with capsys.disabled():
        print(f"\ntakeover after a kill: {takeover_s:.1f} s; load {os.getloadavg()[0]:.0f}")
    assert takeover_s < TAKEOVER_MAX_S
    notes = history.read(tmp_path)
    assert history.overlaps(history.worked(notes, ended)) == []
    assert history.overlaps(history.held(notes, ended)) == []


def test_two_workers_at_one_partition_are_found() -> None:
    one, other, later = Span(0, 1, 1.0, 3.0), Span(0, 2, 2.0, 4.0), Span(0, 1, 4.5, 5.0)
    elsewhere = Span(1, 2, 1.0, 5.0)

    assert history.overlaps([one, other, later, elsewhere]) == [(one, other)]
