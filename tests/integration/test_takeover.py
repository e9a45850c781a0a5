"""Owners that fail under traffic: one is paused past its lease and wakes, the other is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from danube_client import SubscribeDenied, SubscriptionType, connect
from danube_client.client import Client
from danube_client.consumer import Consumer
from danube_common.cluster.membership import INSTANCE_TTL_S
from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.clients import EXCLUSIVE, Topic
from danube_harness.traffic.load import DISK, Load

TOPICS = [Topic(f"/default/takeover{number}", DISK, (EXCLUSIVE,)) for number in range(6)]
TAKEOVER_S_MAX = 10.0
"""Within this time another owner serves the topics of one that failed."""
DRAIN_S_MAX = 45.0
QUIET_S = 1.0
FREE_S_MAX = 10.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.run(tmp_path / "platform", arguments=("--topic-owners", "2")) as running:
        yield running


@pytest.mark.timeout(150)
async def test_topics_survive_a_paused_owner_that_wakes_and_a_killed_one(platform: Platform) -> None:
    gateway = f"http://{platform.gateway_addr}"
    async with Load.run([gateway], TOPICS) as load:
        await load.until_flowing()
        began = time.monotonic()
        platform.kill("topic-owner", signal.SIGSTOP)
        await asyncio.sleep(INSTANCE_TTL_S)
        await load.until_flowing()
        platform.kill("topic-owner", signal.SIGCONT)
        await load.until_flowing()
        await asyncio.to_thread(platform.kill, "topic-owner")
        await load.until_flowing()
        silence = load.silence(began, time.monotonic())

        await load.stop_writing()
        # What was sent again is acknowledged too, so that nothing is left for the next reader.
        await load.caught_up(DRAIN_S_MAX, quiet_s=QUIET_S)
    print(f"{silence}\n{load.text()}")
    load.check()
    assert silence.delivery_s < TAKEOVER_S_MAX

    # Nobody moved a cursor back or forth: what was acknowledged stays so for the next reader.
    async with connect(gateway) as client:
        for topic in TOPICS:
            consumer = await next_reader(client, topic)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await anext(consumer)
            await consumer.close()


async def next_reader(client: Client, topic: Topic) -> Consumer:
    """A consumer of another name; the platform needs a moment to notice that the one before has gone."""
    async with asyncio.timeout(FREE_S_MAX):
        while True:
            consumer = client.consumer(
                topic.name, EXCLUSIVE.name, name="next reader", type=SubscriptionType.EXCLUSIVE
            )
            try:
                return await consumer
            except SubscribeDenied:
                await asyncio.sleep(0.1)
