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
from tests.streams.worker import FaustWorker

from danube_client import Producer, connect
from danube_harness.platforms.standalone import Platform

TOPIC = "/default/flights"
PARTITIONS = 4
POLL_S = 1.0
"""A view goes through the whole table."""

Delays = dict[str, dict[str, list[int]]]
"""Flights and minutes of delay by carrier and hour."""


@pytest.mark.server
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2000, id="2000", marks=[pytest.mark.acceptance, pytest.mark.timeout(300)]),
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

            first, second = workers
            await publish(producer, every[: count // 4])
            await until(second, expected(every[: count // 4]))
            await first.kill()
            await publish(producer, every[count // 4 : count // 2])
            await asyncio.to_thread(platform.kill, "gateway")
            await publish(producer, every[count // 2 : 3 * count // 4])
            await asyncio.to_thread(platform.kill, "topic-owner")
            await publish(producer, every[3 * count // 4 :])

            await until(second, expected(every))
            await first.start()
            await until(first, expected(every))


async def publish(producer: Producer, some: Iterable[dict[str, Any]]) -> None:
    for flight in some:
        await producer.post(json.dumps(flight).encode(), key=flight["carrier"])
    await producer.flush()


def expected(every: Iterable[dict[str, Any]]) -> Delays:
    delays: Delays = defaultdict(dict)
    for flight in every:
        hour = datetime.fromisoformat(flight["time_hour"]).replace(tzinfo=UTC).isoformat()
        flights, delay_min = delays[flight["carrier"]].get(hour, [0, 0])
        delays[flight["carrier"]][hour] = [flights + 1, delay_min + (flight["dep_delay"] or 0)]
    return delays


async def until(worker: FaustWorker, delays: Delays) -> None:
    """Return once a worker answers with these delays, its own and those that it gets from the other one."""
    for carrier, hours in delays.items():
        while await worker.get(f"/delays/{carrier}/") != hours:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
