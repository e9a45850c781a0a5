"""Promises 1 to 4 with two owners: one is paused past its lease and wakes, the other is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from danube_client import Reliable, Schema, Storage, SubscriptionType, connect
from danube_client.client import Client
from danube_client.consumer import Consumer
from danube_harness.history import check
from danube_harness.platforms.standalone import Platform

TOPICS = tuple(f"/default/takeover{number}" for number in range(6))
SUBSCRIPTION = "readers"
SEND_INTERVAL_S = 0.02
PAUSE_S = 9.0
"""Longer than the lease (5 s) and what reassignment takes."""
TAKEOVER_S_MAX = 10.0
"""Promise 3."""
DRAIN_S_MAX = 45.0
QUIET_S = 1.0


@dataclass(slots=True)
class Traffic:
    """What one topic's writer and reader saw."""

    topic: str
    sent: int = 0
    received: list[tuple[str, int]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def complete(self) -> bool:
        return len(set(self.received)) == self.sent

    def longest_gap_s(self) -> float:
        return max((b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)), default=0.0)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.run(tmp_path / "platform", arguments=("--topic-owners", "2")) as running:
        yield running


async def write(client: Client, traffic: Traffic, stop: asyncio.Event) -> None:
    """Numbered messages, one every few milliseconds; each is acknowledged when its future is done."""
    producer = client.producer(
        traffic.topic, name="writer", schema=Schema.string(), strategy=Reliable(storage=Storage.DISK)
    )
    async with producer:
        while not stop.is_set():
            await producer.post(f"{traffic.sent}")
            traffic.sent += 1
            await asyncio.sleep(SEND_INTERVAL_S)
        await producer.flush()


async def read(consumer: Consumer, traffic: Traffic) -> None:
    async for message in consumer:
        traffic.received.append(("writer", int(message.text)))
        traffic.arrivals.append(time.monotonic())
        traffic.arrived.set()
        await consumer.post_ack(message)


async def until_complete(traffics: list[Traffic]) -> None:
    async with asyncio.timeout(DRAIN_S_MAX):
        for traffic in traffics:
            while not traffic.complete:
                traffic.arrived.clear()
                await traffic.arrived.wait()
        # What was sent again is acknowledged too, so that nothing is left for the next reader.
        for traffic in traffics:
            with contextlib.suppress(TimeoutError):
                while True:
                    traffic.arrived.clear()
                    await asyncio.wait_for(traffic.arrived.wait(), QUIET_S)


@pytest.mark.timeout(150)
async def test_topics_survive_a_paused_owner_that_wakes_and_a_killed_one(platform: Platform) -> None:
    traffics = [Traffic(topic) for topic in TOPICS]
    stop = asyncio.Event()
    async with connect(f"http://{platform.gateway_addr}") as client, contextlib.AsyncExitStack() as opened:
        writers = [asyncio.create_task(write(client, traffic, stop)) for traffic in traffics]
        await asyncio.sleep(1)
        readers = []
        for traffic in traffics:
            consumer = await opened.enter_async_context(
                client.consumer(
                    traffic.topic,
                    SUBSCRIPTION,
                    name="reader",
                    type=SubscriptionType.EXCLUSIVE,
                    reconnect=True,
                )
            )
            readers.append(asyncio.create_task(read(consumer, traffic)))
        await asyncio.sleep(1)

        platform.kill("topic-owner", signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)
        platform.kill("topic-owner", signal.SIGCONT)
        await asyncio.sleep(1)
        await asyncio.to_thread(platform.kill, "topic-owner")
        await asyncio.sleep(3)

        stop.set()
        await asyncio.gather(*writers)
        await until_complete(traffics)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    for traffic in traffics:
        report = check({"writer": range(traffic.sent)}, {"reader": traffic.received})
        print(f"{traffic.topic}: {report.text()}; longest silence {traffic.longest_gap_s():.1f} s")
        assert report.ok
        assert not report.reordered
        assert traffic.longest_gap_s() < TAKEOVER_S_MAX

    # Nobody moved a cursor back or forth: what was acknowledged stays so for the next reader.
    async with connect(f"http://{platform.gateway_addr}") as client:
        for traffic in traffics:
            async with client.consumer(
                traffic.topic, SUBSCRIPTION, name="next reader", type=SubscriptionType.EXCLUSIVE
            ) as consumer:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await anext(consumer)
