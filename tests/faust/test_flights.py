from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.flights import FLIGHTS_TOTAL, flights
from tests.faust.worker import FaustWorker

from danube_client import Producer, connect
from danube_harness.platforms.standalone import Platform

TOPIC = "/default/flights"
PARTITIONS = 4
POLL_S = 0.2

Delays = dict[tuple[str, float], tuple[int, int]]
"""Flights and minutes of delay by carrier and hour."""


@pytest.mark.server
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(4000, id="4000", marks=pytest.mark.timeout(240)),
        pytest.param(FLIGHTS_TOTAL, id="all", marks=[pytest.mark.acceptance, pytest.mark.timeout(3600)]),
    ],
)
async def test_delays_are_those_of_plain_python_although_worker_gateway_and_owner_are_killed(
    count: int, tmp_path: Path
) -> None:
    every = list(flights(count))
    with Platform.run(tmp_path) as platform:
        workers = [
            FaustWorker(name, tmp_path, "flights", platform.gateway_addrs) for name in ("first", "second")
        ]
        async with AsyncExitStack() as stack:
            for worker in workers:
                await worker.start()
                stack.push_async_callback(worker.kill)
            client = await stack.enter_async_context(
                connect(f"http://{platform.gateway_addr}", streaming=True)
            )
            producer = await stack.enter_async_context(client.producer(TOPIC, partitions=PARTITIONS))

            await publish(producer, every[: count // 4])
            await until(workers)
            await workers[0].kill()
            await publish(producer, every[count // 4 : count // 2])
            await asyncio.to_thread(platform.kill, "gateway")
            await publish(producer, every[count // 2 : 3 * count // 4])
            await asyncio.to_thread(platform.kill, "topic-owner")
            await publish(producer, every[3 * count // 4 :])

            delays = expected(every)
            await until(workers[1:], delays)

            # With one standby of each partition both workers get the whole table.
            await workers[0].start()
            await until(workers, delays)


async def publish(producer: Producer, some: Iterable[dict[str, Any]]) -> None:
    for flight in some:
        await producer.post(json.dumps(flight).encode(), key=flight["carrier"])
    await producer.flush()


def expected(every: Iterable[dict[str, Any]]) -> Delays:
    counts: defaultdict[tuple[str, float], int] = defaultdict(int)
    delays: defaultdict[tuple[str, float], int] = defaultdict(int)
    for flight in every:
        hour = datetime.fromisoformat(flight["time_hour"]).replace(tzinfo=UTC).timestamp()
        counts[flight["carrier"], hour] += 1
        delays[flight["carrier"], hour] += flight["dep_delay"] or 0
    return {key: (counts[key], delays[key]) for key in counts}


async def until(workers: Iterable[FaustWorker], delays: Delays | None = None) -> None:
    """Return once each worker serves these delays, or any if none are given."""
    while True:
        answers = [await worker.get("/delays/") for worker in workers]
        found = [
            {(carrier, start): (flights, delay_min) for carrier, start, flights, delay_min in answer}
            for answer in answers
            if answer
        ]
        if len(found) == len(answers) and (delays is None or all(one == delays for one in found)):
            return
        await asyncio.sleep(POLL_S)
