"""An idempotent producer under faults: whatever it sends again is stored once, and in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

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

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    arguments = ("--gateways", "2", "--gateway-ports", "each", "--topic-owners", "2")
    with Platform.run(tmp_path_factory.mktemp("platform"), arguments=arguments) as running:
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
