"""A bare JetStream publisher and consumer on the platform's own NATS server, so with its sync setting.

``python -m tests.benchmarks.jetstream_peer URL SECONDS`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import nats
import uvloop
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

PAYLOAD = bytes(1024)
STREAM = "bench"
IN_FLIGHT = 64
FETCH = 256


async def latencies(context: JetStreamContext, seconds: float) -> list[float]:
    """Seconds of each publish, one at a time."""
    taken, ends = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        await context.publish(STREAM, PAYLOAD)
        taken.append(time.perf_counter() - began)
    return taken


async def publish_rate(context: JetStreamContext, seconds: float) -> float:
    """Answered publishes per second, with IN_FLIGHT at a time."""
    begun, count = time.perf_counter(), 0

    async def keep_publishing() -> None:
        nonlocal count
        while time.perf_counter() - begun < seconds:
            await context.publish(STREAM, PAYLOAD)
            count += 1

    await asyncio.gather(*(keep_publishing() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - begun)


async def consume_rate(context: JetStreamContext, available: int) -> float:
    """Messages per second, pulled FETCH at a time, each acknowledged without awaiting it."""
    subscription = await context.pull_subscribe(STREAM, durable="bench")
    begun, count = time.perf_counter(), 0
    while count < available:
        for message in await subscription.fetch(min(FETCH, available - count), timeout=5):
            await message.ack()
            count += 1
    return count / (time.perf_counter() - begun)


async def main(url: str, seconds: float) -> None:
    """Measure and print."""
    client = await nats.connect(url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name=STREAM, subjects=[STREAM]))
    try:
        taken = await latencies(context, seconds)
        rate = await publish_rate(context, seconds)
        available = (await context.stream_info(STREAM)).state.messages
        found = {
            "awaited_per_s": len(taken) / sum(taken),
            "awaited_p50_us": statistics.median(taken) * 1e6,
            "in_flight_per_s": rate,
            "consume_per_s": await consume_rate(context, available),
        }
    finally:
        await context.delete_stream(STREAM)
        await client.close()
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
