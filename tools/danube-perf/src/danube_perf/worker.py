"""One process of a run: producers and consumers, told what to do on stdin, telling on stdout, in lines.

It ends when its stdin ends, so it never outlives the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections import Counter
from typing import Final

import uvloop

from danube_perf.channel import CallError, Channel, Unreachable
from danube_perf.consuming import Budget, Reader
from danube_perf.contract import Publisher
from danube_perf.integrity import Counts, Integrity
from danube_perf.latency import Latencies
from danube_perf.payload import Clock, filling
from danube_perf.plan import (
    Failed,
    Finish,
    Produced,
    ProducerPlan,
    Ready,
    Report,
    Result,
    Start,
    Stop,
    Tick,
    WorkerPlan,
    encode,
    orders,
    plans,
)
from danube_perf.producing import Load
from danube_perf.streaming import Link, StreamPublisher

LINE_BYTES_MAX: Final = 64 << 20
SETTLE_S_MAX: Final = 10.0
"""How long the last answers are awaited after a stop."""
QUIET_CHECK_S: Final = 0.02
ATTACHING_MAX: Final = 64
"""Producers and consumers that are attached at one time."""


class Worker:
    """Carries out one plan."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._clock = Clock()
        self._channels: list[Channel | Link] = []
        self._loads: list[Load] = []
        self._readers: list[Reader] = []
        self._integrity: dict[tuple[str, str], Integrity] = {}
        self._publish, self._ack, self._end_to_end = Latencies(), Latencies(), Latencies()
        self._told = [0, 0, 0]
        self._tasks: list[asyncio.Task[None]] = []
        self._cpu_s = 0.0

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Serve the orders until the result is told or the orders end. Raises CallError, Unreachable."""
        await self._attach()
        gc.collect()
        gc.freeze()
        tell(Ready())
        while line := await lines.readline():
            order = orders.decode(line)
            if isinstance(order, Start):
                self._begin(order)
            elif isinstance(order, Stop):
                self._stop()
            else:
                await self._finish(order)
                break
        for task in self._tasks:
            task.cancel()
        for reader in self._readers:
            await reader.close()
        for channel in self._channels:
            await channel.close()

    async def _attach(self) -> None:
        plan = self._plan
        rest = filling(plan.size_bytes)
        shared = [await self._connect() for _ in range(plan.connections if plan.producers else 0)]
        room = asyncio.Semaphore(ATTACHING_MAX)

        async def attach_producer(at: int) -> Load:
            one = plan.producers[at]
            async with room:
                publisher = await self._publisher(shared[at % len(shared)], one)
            return Load(one, publisher, plan.run, rest, plan.in_flight, self._clock)

        self._loads += await asyncio.gather(*map(attach_producer, range(len(plan.producers))))
        budget = Budget(plan.receive_max)
        for one in plan.consumers:
            integrity = self._integrity.setdefault((one.topic, one.subscription), Integrity())
            run = None if plan.any_run else plan.run
            channel = await self._connect()
            reader = Reader(one, channel, run, plan.acks_in_flight, integrity, budget, self._clock)
            self._readers.append(reader)

        async def attach_consumer(reader: Reader) -> None:
            async with room:
                await reader.attach()

        await asyncio.gather(*map(attach_consumer, self._readers))
        if plan.lockstep:
            self._loads[0].wait_for_deliveries()
            self._readers[0].on_ack = self._loads[0].delivered

    async def _connect(self) -> Channel | Link:
        address = self._plan.address
        channel = Link(address) if self._plan.streaming else await Channel.connect(address)
        self._channels.append(channel)
        return channel

    async def _publisher(self, channel: Channel | Link, one: ProducerPlan) -> Publisher | StreamPublisher:
        plan = self._plan
        if isinstance(channel, Link):
            # Idempotent producers of one name take over from each other.
            return await channel.publisher(one.topic, f"perf-{plan.run:08x}-{one.number}", plan.storage)
        return await Publisher.attach(channel, one.topic, f"perf-{one.number}", plan.storage, plan.address)

    def _begin(self, start: Start) -> None:
        for reader in self._readers:
            reader.begin(start, self._end_to_end, self._ack)
        for load in self._loads:
            load.begin(start, self._publish)
        jobs = [self._measure_cpu(start), self._tick(), self._watch()]
        if self._loads:
            jobs.append(self._produced())
        self._tasks += [asyncio.create_task(job) for job in jobs]

    def _stop(self) -> None:
        for load in self._loads:
            load.stop()
            asyncio.get_running_loop().call_later(SETTLE_S_MAX, load.give_up)

    async def _measure_cpu(self, start: Start) -> None:
        await asyncio.sleep((start.measure_ns - self._clock.now_ns()) / 1e9)
        self._cpu_s = time.process_time()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._plan.tick_s)
            self._tell_tick()

    def _tell_tick(self) -> None:
        now = [
            sum(load.answered for load in self._loads),
            sum(load.failed for load in self._loads),
            sum(reader.received for reader in self._readers),
        ]
        produced, refused, received = (new - old for new, old in zip(now, self._told, strict=True))
        self._told = now
        latencies = (self._publish.interval(), self._ack.interval(), self._end_to_end.interval())
        tell(Tick(produced, refused, received, *latencies))

    async def _watch(self) -> None:
        """Tell when a connection or a stream is gone: the run has no sense any more."""
        gone: list[asyncio.Task[object]] = [
            asyncio.create_task(self._closed(channel)) for channel in self._channels
        ] + [asyncio.create_task(self._broken(reader)) for reader in self._readers]
        try:
            done, _ = await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
            tell(Failed(str(next(iter(done)).result()), unreachable=True))
        finally:
            for future in gone:
                future.cancel()

    async def _closed(self, channel: Channel | Link) -> object:
        return f"{self._plan.address}: {await asyncio.shield(channel.closed)}"

    @staticmethod
    async def _broken(reader: Reader) -> object:
        await reader.ended.wait()
        return f"a subscription's stream ended: {reader.broken}"

    async def _produced(self) -> None:
        for load in self._loads:
            await load.ended.wait()
        refusals: Counter[str] = Counter()
        for load in self._loads:
            refusals.update(load.refusals)
        tell(
            Produced(
                sent={load.number: load.sent for load in self._loads},
                refused={load.number: load.refused for load in self._loads if load.refused},
                refusals=dict(refusals),
                behind_ns=max(load.schedule.behind_ns for load in self._loads),
                last_ns=max(load.last_ns for load in self._loads),
            )
        )

    async def _finish(self, order: Finish) -> None:
        """Wait for what is still to come, and tell the result."""
        began_ns = self._clock.now_ns()
        if not order.sent:
            for reader in self._readers:
                reader.stop()
        while self._readers:
            heard_ns = max(began_ns, *(reader.heard_ns for reader in self._readers))
            quiet = self._clock.now_ns() - heard_ns > order.quiet_s * 1e9
            broken = all(reader.broken for reader in self._readers)
            complete = all(one.complete(self._expected(order, topic)) for (topic, _), one in self._items())
            idle = all(reader.idle for reader in self._readers)
            if quiet or broken or (complete and idle) or (not order.sent and idle):
                break
            await asyncio.sleep(QUIET_CHECK_S)
        cpu_s = time.process_time() - self._cpu_s
        self._tell_tick()
        counts = Counts()
        for (topic, _), integrity in self._items():
            for producer, numbers in order.refused.items():
                if producer in self._expected(order, topic):
                    integrity.excuse(producer, numbers)
            counts.add(integrity.counts(self._expected(order, topic)))
        failed_acks: Counter[str] = Counter()
        for reader in self._readers:
            failed_acks.update(reader.failed_acks)
        tell(
            Result(
                received=counts.received,
                lost=counts.lost,
                duplicated=counts.duplicated,
                reordered=counts.reordered,
                foreign=sum(reader.foreign for reader in self._readers),
                failed_acks=dict(failed_acks),
                last_ns=max((reader.last_ns for reader in self._readers), default=0),
                acked_ns=max((reader.acked_ns for reader in self._readers), default=0),
                cpu_s=cpu_s,
            )
        )

    def _items(self) -> list[tuple[tuple[str, str], Integrity]]:
        return list(self._integrity.items())

    @staticmethod
    def _expected(order: Finish, topic: str) -> dict[int, int]:
        """Return how many numbers each producer of a topic used."""
        return {number: order.sent[number] for number in order.topics.get(topic, ()) if number in order.sent}


def tell(report: Report) -> None:
    """Write one line to the command."""
    sys.stdout.buffer.write(encode(report) + b"\n")
    sys.stdout.buffer.flush()


async def serve() -> None:
    """Read the plan and carry it out."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = plans.decode(await lines.readline())
    try:
        await Worker(plan).run(lines)
    except Unreachable as error:
        tell(Failed(str(error), unreachable=True))
    except CallError as error:
        tell(Failed(str(error), unreachable=error.status == 14))


def main() -> None:
    """Run one worker. An interrupt of the terminal is the command's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        uvloop.run(serve())


if __name__ == "__main__":
    main()
