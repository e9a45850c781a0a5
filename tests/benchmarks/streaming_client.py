"""The client library on native streaming, and nats-py on the platform's own NATS server, in turn.

``python -m tests.benchmarks.streaming_client GATEWAY NATS MESSAGES SECONDS KIND=PID...`` prints JSON.
Frames of the bare publisher are as large as those that the client's batches became in the log.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import uvloop
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from danube_client import Client, SubscriptionType, connect

PAYLOAD = bytes(1024)
BARE = "bench"
FETCH = 1000
Found = dict[str, float]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Measured:
    """Figures by name, with what each process cost."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.found: Found = {}
        self._pids = pids

    @contextmanager
    def phase(self, name: str, messages: Callable[[], int]) -> Iterator[None]:
        """Note rate and cost of what the block does with so many messages."""
        before = {kind: cpu_s(pid) for kind, pid in self._pids.items()}
        begun = time.perf_counter()
        yield
        taken, count = time.perf_counter() - begun, messages()
        self.found[f"{name}.per_s"] = count / taken
        for kind, pid in self._pids.items():
            self.found[f"{name}.{kind}_us"] = (cpu_s(pid) - before[kind]) / count * 1e6


async def for_seconds(seconds: float, once: Callable[[], Awaitable[Any]]) -> float:
    """Return how often a second something is done, one after the other."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        await once()
        count += 1
    return count / (time.perf_counter() - begun)


async def log_extent(context: JetStreamContext, prefix: str = "") -> tuple[int, int]:
    """Return the frames and bytes of all streams whose names begin so."""
    streams = [each for each in await context.streams_info() if (each.config.name or "").startswith(prefix)]
    return sum(each.state.messages for each in streams), sum(each.state.bytes for each in streams)


async def consume(client: Client, topic: str, subscription: str, messages: int) -> None:
    """Receive and acknowledge."""
    left = messages
    async with client.consumer(topic, subscription, type=SubscriptionType.EXCLUSIVE) as consumer:
        async for message in consumer:
            await message.ack()
            left -= 1
            if not left:
                break
        await consumer.flush_acks()


async def produce(client: Client, topic: str, messages: int) -> None:
    """Publish as fast as there is room."""
    async with client.producer(topic) as producer:
        for _ in range(messages):
            await producer.post(PAYLOAD)
        await producer.flush()


async def streaming(
    client: Client, context: JetStreamContext, measured: Measured, messages: int, seconds: float
) -> None:
    """Measure the client library."""
    found = measured.found
    topic, both = (f"/default/bench_{secrets.token_hex(4)}" for _ in range(2))
    async with client.producer(topic) as producer:
        found["awaited.per_s"] = await for_seconds(seconds, lambda: producer.send(PAYLOAD))
    topic = f"{topic}_b"
    frames, size = await log_extent(context)
    with measured.phase("produce", lambda: messages):
        await produce(client, topic, messages)
    more_frames, more_size = await log_extent(context)
    found["frame_bytes"] = (more_size - size) / max(more_frames - frames, 1)
    with measured.phase("consume", lambda: messages):
        await consume(client, topic, "s", messages)
    async with client.producer(both):
        pass  # the consumer needs the topic
    with measured.phase("both", lambda: messages):
        await asyncio.gather(produce(client, both, messages), consume(client, both, "s", messages))


async def bare(context: JetStreamContext, found: Found, messages: int, seconds: float) -> None:
    """Measure nats-py."""
    await context.add_stream(StreamConfig(name=BARE, subjects=[BARE]))
    try:
        found["bare.awaited.per_s"] = await for_seconds(seconds, lambda: context.publish(BARE, PAYLOAD))
        frame = bytes(int(found["frame_bytes"]))
        of_frame = len(frame) / len(PAYLOAD)
        rate = await for_seconds(seconds, lambda: context.publish(BARE, frame))
        found["bare.produce.per_s"] = rate * of_frame
        await context.purge_stream(BARE)
        await bare_produce(context, messages)
        subscription = await context.pull_subscribe(BARE, durable="consume")
        begun = time.perf_counter()
        await bare_consume(subscription, messages)
        found["bare.consume.per_s"] = messages / (time.perf_counter() - begun)
        begun = time.perf_counter()
        await asyncio.gather(bare_produce(context, messages), bare_consume(subscription, messages))
        found["bare.both.per_s"] = messages / (time.perf_counter() - begun)
    finally:
        await context.delete_stream(BARE)


async def bare_produce(context: JetStreamContext, messages: int) -> None:
    """Publish with 256 in flight, the best of nats-py without frames."""
    left = iter(range(messages))

    async def keep_publishing() -> None:
        for _ in left:
            await context.publish(BARE, PAYLOAD)

    await asyncio.gather(*(keep_publishing() for _ in range(256)))


async def bare_consume(subscription: JetStreamContext.PullSubscription, messages: int) -> None:
    """Pull, and acknowledge without awaiting the answer."""
    left = messages
    while left:
        for message in await subscription.fetch(min(FETCH, left), timeout=5):
            await message.ack()
            left -= 1


async def main(url: str, nats_url: str, messages: int, seconds: float, pids: Mapping[str, int]) -> None:
    """Measure and print."""
    measured = Measured(pids)
    connection = await nats.connect(nats_url)
    try:
        async with connect(url, streaming=True) as client:
            await streaming(client, connection.jetstream(), measured, messages, seconds)
        await bare(connection.jetstream(), measured.found, min(messages, 20_000), seconds)
    finally:
        await connection.close()
    print(json.dumps(measured.found))


if __name__ == "__main__":
    named = dict(word.split("=") for word in sys.argv[5:])
    processes = {kind: int(pid) for kind, pid in named.items()}
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), processes))
