"""Runs a scenario: creates the topics, starts the processes, tells the progress, adds up the results."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from danube_perf.channel import CallError, Channel, Unreachable
from danube_perf.contract import Publisher
from danube_perf.latency import Latencies
from danube_perf.outcome import Outcome
from danube_perf.payload import Clock
from danube_perf.plan import (
    Failed,
    Finish,
    Order,
    Produced,
    Ready,
    Report,
    Result,
    Start,
    Stop,
    Tick,
    WorkerPlan,
    encode,
    reports,
)
from danube_perf.process_usage import Watched
from danube_perf.scenario import Scenario
from danube_perf.timeline import Point
from danube_perf.worker import ATTACHING_MAX, LINE_BYTES_MAX, SETTLE_S_MAX

READY_S_MAX: Final = 60.0
BEGIN_S: Final = 0.1
"""From the last process's readiness to the first message."""
CHECK_S: Final = 0.2
"""How often what depends on time is looked at."""
RESULT_S_MAX: Final = 60.0
"""How long the results may take beyond what the consumers wait for."""

Tell = Callable[[str], None]


class WorkerError(Exception):
    """A process of the run ended or did not answer."""


class Process:
    """One worker process."""

    def __init__(self, plan: WorkerPlan, process: asyncio.subprocess.Process) -> None:
        self.plan = plan
        self.process = process
        self.ready = asyncio.Event()
        self.produced: Produced | None = None if plan.producers else Produced({}, {}, {}, 0, 0)
        self.result: Result | None = None

    @classmethod
    async def start(cls, plan: WorkerPlan) -> Process:
        """Start a process on a plan."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "danube_perf.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        started = cls(plan, process)
        await started.send(plan)
        return started

    async def send(self, line: Order | WorkerPlan) -> None:
        """Write a line; one that has ended reads nothing."""
        assert self.process.stdin is not None  # noqa: S101 - asked for above
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(encode(line) + b"\n")
            await self.process.stdin.drain()

    async def report(self) -> Report | None:
        """Return the next line; None at the end."""
        assert self.process.stdout is not None  # noqa: S101 - asked for above
        line = await self.process.stdout.readline()
        return reports.decode(line) if line else None

    async def end(self) -> None:
        """End it, at once if it does not end by itself."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 2.0)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Run:
    """One run of a scenario.

    Args:
        scenario: what to do.
        watched: processes whose CPU and memory are measured.
        tell: gets a line of progress every second.
    """

    def __init__(self, scenario: Scenario, watched: list[Watched], tell: Tell) -> None:
        self._scenario = scenario
        self._tell = tell
        self._clock = Clock()
        self._processes: list[Process] = []
        self._changed = asyncio.Event()
        self._stopping = False
        self._measure_ns = 0
        self._interval: dict[int, Tick] = {}
        self._told_at = 0.0
        self.outcome = Outcome(scenario, watched)

    async def run(self) -> Outcome:
        """Carry it out; an interrupt ends it early, with what it has found.

        Raises:
            Unreachable, CallError: it could not begin.
            WorkerError: a process failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        listeners: list[asyncio.Task[None]] = []
        try:
            if self._scenario.producers:
                await create_topics(self._scenario)
            for plan in self._scenario.workers():
                process = await Process.start(plan)
                self._processes.append(process)
                listeners.append(asyncio.create_task(self._listen(process)))
            await self._attached(listeners)
            if not self._stopping:
                await self._measure(listeners)
            return self.outcome
        finally:
            for task in listeners:
                task.cancel()
            await asyncio.gather(*(process.end() for process in self._processes))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _attached(self, listeners: list[asyncio.Task[None]]) -> None:
        await self._until(
            lambda: self._stopping or all(one.ready.is_set() for one in self._processes),
            READY_S_MAX,
            listeners,
            "the producers and consumers were not attached",
        )
        if self.outcome.failure is not None:
            failure = self.outcome.failure
            raise Unreachable(failure.text) if failure.unreachable else CallError(2, failure.text)

    async def _measure(self, listeners: list[asyncio.Task[None]]) -> None:
        scenario = self._scenario
        begin_ns = self._clock.now_ns() + (int(BEGIN_S * 1e9) if scenario.producers else 0)
        self._measure_ns = begin_ns + int(scenario.warmup_s * 1e9)
        end_ns = None
        if scenario.duration_s is not None:
            end_ns = self._measure_ns + int(scenario.duration_s * 1e9)
        self.outcome.measure_ns = self._measure_ns
        await self._send(Start(begin_ns, self._measure_ns, end_ns))
        watching = asyncio.create_task(self._watch())
        try:
            await self._until(self._over, self._seconds_max(end_ns), listeners, "")
            self._stopping = True
            await self._send(Stop())
            await self._until(
                lambda: all(one.produced for one in self._processes),
                SETTLE_S_MAX + RESULT_S_MAX,
                listeners,
                "the last answers did not come",
            )
            produced = [one.produced for one in self._processes if one.produced is not None]
            self.outcome.add_produced(produced)
            quiet_s = scenario.quiet_s if scenario.producers else 0.2
            await self._send(
                Finish(self.outcome.sent, scenario.producers_of(), self.outcome.refused, quiet_s)
            )
            await self._until(
                lambda: all(one.result for one in self._processes), None, listeners, "no result came"
            )
        finally:
            watching.cancel()
        for one in self.outcome.watched:
            one.look()
        self.outcome.add_results([one.result for one in self._processes if one.result is not None])

    def _over(self) -> bool:
        scenario = self._scenario
        if self._stopping:
            return True
        if scenario.producers:
            return all(one.produced for one in self._processes)
        if scenario.duration_s is not None and self._clock.now_ns() >= self._measure_ns + int(
            scenario.duration_s * 1e9
        ):
            return True
        return scenario.messages is not None and self.outcome.received >= scenario.messages

    def _seconds_max(self, end_ns: int | None) -> float | None:
        return None if end_ns is None else (end_ns - self._clock.now_ns()) / 1e9 + SETTLE_S_MAX

    async def _until(
        self,
        condition: Callable[[], bool],
        seconds_max: float | None,
        listeners: list[asyncio.Task[None]],
        problem: str,
    ) -> None:
        """Wait for a condition, checked after every report. Raises WorkerError if a process ended."""
        deadline = None if seconds_max is None else time.monotonic() + seconds_max
        while True:
            self._changed.clear()
            if condition():
                return
            for listener in listeners:
                if listener.done():
                    listener.result()
            if deadline is not None and time.monotonic() > deadline:
                if problem:
                    raise WorkerError(problem)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), CHECK_S)

    async def _send(self, order: Order) -> None:
        for process in self._processes:
            await process.send(order)

    async def _listen(self, process: Process) -> None:
        while (report := await process.report()) is not None:
            if isinstance(report, Ready):
                process.ready.set()
            elif isinstance(report, Produced):
                process.produced = report
            elif isinstance(report, Result):
                process.result = report
            elif isinstance(report, Failed):
                self.outcome.failure = self.outcome.failure or report
                self._stopping = True
            else:
                self._tick(process.process.pid, report)
            self._changed.set()
            if process.result is not None:
                return
        if self.outcome.failure is None:
            raise WorkerError(f"a process of the run ended with {await process.process.wait()}")

    def _tick(self, pid: int, tick: Tick) -> None:
        """Add up; when a process tells its second interval, the first one of all is told to the user."""
        if pid in self._interval:
            self._progress()
        self._interval[pid] = tick
        self.outcome.add_tick(tick)
        if len(self._interval) == len(self._processes):
            self._progress()

    def _progress(self) -> None:
        ticks, self._interval = list(self._interval.values()), {}
        now = time.monotonic()
        seconds = now - self._told_at if self._told_at else 1.0
        self._told_at = now
        received, produced = sum(one.received for one in ticks), sum(one.produced for one in ticks)
        shown = Latencies.of(*((one.end_to_end if received else one.publish) for one in ticks))
        begin_s = (self._clock.now_ns() - self._measure_ns) / 1e9 - seconds
        if begin_s < -seconds / 2:
            self._tell("warming up")
            return
        point = Point(max(begin_s, 0.0), seconds, produced, received, shown.at(50), shown.at(99))
        if produced or received or not self._stopping:
            self.outcome.timeline.add(point)
            self._tell(progress_line(point, sum(one.refused for one in ticks)))

    async def _watch(self) -> None:
        """Measure the watched processes from the end of the warm-up on."""
        await asyncio.sleep((self._measure_ns - self._clock.now_ns()) / 1e9)
        for one in self.outcome.watched:
            one.begin()
        while True:
            await asyncio.sleep(1.0)
            for one in self.outcome.watched:
                one.look()

    def _interrupt(self) -> None:
        self.outcome.interrupted = True
        self._stopping = True


def progress_line(point: Point, refused: int) -> str:
    """Return an interval for people."""
    parts = [f"{point.begin_s + point.seconds:6.0f} s"]
    if point.produced:
        parts.append(f"{point.produced / point.seconds:9.0f} msg/s produced")
    if point.received:
        parts.append(f"{point.received / point.seconds:9.0f} msg/s received")
    if not point.produced and not point.received:
        parts.append("nothing")
    else:
        what = "end to end" if point.received else "publish"
        parts.append(f"{what} p50 {point.p50_us / 1000:.2f} p99 {point.p99_us / 1000:.2f} ms")
    if refused:
        parts.append(f"{refused} refused")
    return "  ".join(parts)


async def create_topics(scenario: Scenario) -> None:
    """Create the topics that are new, before any process needs them. Raises Unreachable, CallError."""
    channel = await Channel.connect(scenario.address)
    room = asyncio.Semaphore(ATTACHING_MAX)
    producers = scenario.producers_of()

    async def create(topic: str) -> None:
        number = producers[topic][0]
        async with room:
            await Publisher.attach(channel, topic, f"perf-{number}", scenario.storage, scenario.address)

    try:
        await asyncio.gather(*map(create, scenario.topics))
    finally:
        await channel.close()
