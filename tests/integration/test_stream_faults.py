"""An idempotent producer under faults: whatever it sends again is stored once, and in order."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import Iterator

import grpc.aio
import pytest

from danube_client import SubscriptionType, connect
from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.publish_stream import PublishStream
from danube_harness.traffic.resending_producer import ResendingProducer

TOPIC = "/default/stream_faults"
BATCH_MESSAGES = 20
FLOW = 10 * BATCH_MESSAGES
"""So many messages are stored before and after each fault."""
PATIENCE_S = 60.0
PAUSE_S = 1.0
POLL_S = 0.1
SEALS = "danube_storage_cuts_total"
UNSEALED_S = "danube_storage_lag_seconds"
SEAL_AGE_S = 1.0
"""So that storage purges what owners have just read, or have not."""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    arguments = ("--gateways", "2", "--gateway-ports", "each", "--topic-owners", "2")
    environment = {"DANUBE_STORAGE_SEAL_AGE_S": str(SEAL_AGE_S)}
    folder = tmp_path_factory.mktemp("platform")
    with Platform.run(folder, arguments=arguments, environment=environment) as running:
        yield running


@pytest.mark.timeout(240)
async def test_no_fault_makes_an_idempotent_producer_lose_repeat_or_reorder(platform: Platform) -> None:
    addrs = platform.gateway_addrs
    first = await PublishStream.open(addrs[0], TOPIC, "first")
    await first.close()
    async with connect(f"http://{addrs[0]}") as client:
        consumer = await client.consumer(TOPIC, "s", name="c", type=SubscriptionType.EXCLUSIVE)
        await consumer.close()
    producer = ResendingProducer(addrs, TOPIC, "p", BATCH_MESSAGES)
    running = asyncio.create_task(producer.run())

    async def flow() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await producer.until_answered(FLOW)

    try:
        await flow()
        for name in ("gateway", "topic-owner", "nats", "gateway"):
            await asyncio.to_thread(platform.kill, name)
            await flow()
        for name in ("gateway", "topic-owner"):
            platform.kill(name, signal.SIGSTOP)
            await asyncio.sleep(PAUSE_S)
            platform.kill(name, signal.SIGCONT)
            await flow()
        producer.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running
    finally:
        running.cancel()
    assert producer.answered == producer.sent
    assert producer.streams > 1

    end = await PublishStream.open(addrs[0], TOPIC, "end")
    await end.send(1, [b"end"])
    await end.stored(1)
    await end.close()
    received: list[str] = []
    async with connect(f"http://{addrs[0]}") as client:
        consumer = await client.consumer(TOPIC, "s", name="c", type=SubscriptionType.EXCLUSIVE)
        async with asyncio.timeout(PATIENCE_S):
            async for message in consumer:
                if message.text == "end":
                    break
                received.append(message.text)
                await message.ack()
    assert received == [str(number) for number in range(producer.sent)]


@pytest.mark.timeout(120)
async def test_a_producer_learns_what_it_stored_though_its_owners_died_and_storage_purged_it(
    platform: Platform,
) -> None:
    """Right after the last message the owners die, and before the next ones read the log it is purged."""
    addr = platform.gateway_addrs[0]
    topic = "/default/purged"
    stream = await PublishStream.open(addr, topic, "p", idempotent=True)
    await stream.send(1, [b"0"])
    await stream.stored(1)
    sealed = await storage_metric(platform, SEALS)
    await stream.send(2, [b"1", b"2"])
    owners = platform.pids("topic-owner")
    for owner in owners:
        os.kill(owner, signal.SIGSTOP)
    await stream.stored(3)
    await stream.close()
    async with asyncio.timeout(PATIENCE_S):
        await purged(platform, sealed)
    for owner in owners:
        os.kill(owner, signal.SIGKILL)

    async with asyncio.timeout(PATIENCE_S):
        stream = await reopened(addr, topic)
        assert [each.last_sequence for each in stream.opened.partitions] == [3]
        await stream.send(4, [b"3"])
        await stream.stored(4)
        await stream.close()
    async with connect(f"http://{addr}") as client, client.reader(topic) as reader:
        messages = [message.text async for message in reader]
    assert messages == ["0", "1", "2", "3"]


async def reopened(addr: str, topic: str) -> PublishStream:
    """Open the producer again, as often as a gateway says that the owner is away."""
    while True:
        try:
            return await PublishStream.open(addr, topic, "p", idempotent=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(POLL_S)


async def purged(platform: Platform, seals: float) -> None:
    """Wait until storage has sealed more than ``seals`` parts of logs, and nothing is left in them."""
    while (  # noqa: ASYNC110 - in another process
        await storage_metric(platform, SEALS) == seals or await storage_metric(platform, UNSEALED_S)
    ):
        await asyncio.sleep(POLL_S)


async def storage_metric(platform: Platform, name: str) -> float:
    """Return the sum of a metric of storage over all bundles."""

    def scrape() -> list[str]:
        with urllib.request.urlopen(f"{platform.http_urls('storage')[0]}/metrics") as answer:  # noqa: S310
            return str(answer.read().decode()).splitlines()

    return sum(float(line.split()[-1]) for line in await asyncio.to_thread(scrape) if line.startswith(name))
