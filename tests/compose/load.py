"""Writers and readers outside of the containers, and what became of every message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from danube_client import Reliable, Storage, SubscriptionType
from danube_harness.chaos.traffic import EXCLUSIVE, SHARED, Reader, Subscription, Topic, Writer, longest_gap_s

OPEN_S_MAX: Final = 120.0
CATCH_UP_S_MAX: Final = 120.0
QUIET_S: Final = 2.0
"""So long without another message, repeats included, the readers go on after they have everything."""

DISK: Final = Reliable(storage=Storage.DISK)
OBJECTS: Final = Reliable(storage=Storage.S3)
TOPICS: Final = 6
"""Enough for every owner to have some."""


def topics(stem: str, *strategies: Reliable) -> list[Topic]:
    """TOPICS of these names, kept by one strategy after the other."""
    return [
        Topic(
            f"/default/{stem}{number}",
            strategies[number % len(strategies)],
            (EXCLUSIVE, SHARED) if number == 0 else (EXCLUSIVE,),
        )
        for number in range(TOPICS)
    ]


@dataclass(slots=True)
class Load:
    """Traffic that goes on until its context ends; then everything acknowledged is waited for.

    Attributes:
        marks: what happened when, monotonic: the silences are told from each to the next.
    """

    writers: list[Writer] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    stopped: float = 0.0

    def mark(self, what: str) -> None:
        """Something happens now."""
        self.marks.append((time.monotonic(), what))

    @property
    def problems(self) -> list[str]:
        """Every promise that was broken."""
        found = []
        for subscription in self.subscriptions:
            report = subscription.report(self.writers)
            if not report.ok or report.received == 0:
                found.append(f"{subscription.name}: {report.text()}")
            if report.reordered and subscription.reading.type is SubscriptionType.EXCLUSIVE:
                found.append(f"{subscription.name}: out of order: {report.text()}")
        return found

    @property
    def silences(self) -> list[tuple[str, float, float]]:
        """After each mark: what it was, the longest silence of any writer and that of any subscription."""
        ends = [*(at for at, _ in self.marks[1:]), self.stopped]
        return [
            (
                what,
                max(longest_gap_s(one.acknowledged_at, at, until) for one in self.writers),
                max(longest_gap_s(one.progressed_at, at, until) for one in self.subscriptions),
            )
            for (at, what), until in zip(self.marks, ends, strict=True)
        ]

    def text(self) -> str:
        """Counts and silences."""
        lines = [
            f"  {what:<41} publishing {publishing:5.1f} s   delivery {delivery:5.1f} s"
            for what, publishing, delivery in self.silences
        ]
        lines += [f"  {one.name}: {one.report(self.writers).text()}" for one in self.subscriptions]
        errors = [f"{one.name} {one.errors}" for one in self.writers if one.errors]
        errors += [f"{r.name} {r.errors}" for one in self.subscriptions for r in one.readers if r.errors]
        return "\n".join([*lines, *errors])


@asynccontextmanager
async def load(url: str, written: Sequence[Topic]) -> AsyncIterator[Load]:
    """Write to the topics and read from them, as long as the context lasts and until all has come."""
    under = Load()
    stop = asyncio.Event()
    reading = []
    async with asyncio.TaskGroup() as group:
        writing = []
        for topic in written:
            writer = Writer(f"writer-{topic.name.rpartition('/')[2]}", topic, [url])
            under.writers.append(writer)
            opened = asyncio.Event()
            writing.append(group.create_task(writer.run(opened, stop)))
            async with asyncio.timeout(OPEN_S_MAX):
                await opened.wait()
        for topic in written:
            for wanted in topic.readings:
                subscription = Subscription(topic, wanted)
                under.subscriptions.append(subscription)
                for number in range(wanted.readers):
                    reader = Reader(f"{wanted.name}-{number}", subscription, [url])
                    subscription.readers.append(reader)
                    reading.append(group.create_task(reader.run()))
        async with asyncio.timeout(OPEN_S_MAX):
            for subscription in under.subscriptions:
                await subscription.until_changed()
        try:
            yield under
            under.stopped = time.monotonic()
            stop.set()
            await asyncio.gather(*writing)
            await asyncio.gather(*(_caught_up(one, under) for one in under.subscriptions))
        finally:
            for task in (*reading, *writing):
                task.cancel()


async def _caught_up(subscription: Subscription, under: Load) -> None:
    """Returns when everything acknowledged has come and nothing else does, or when it takes too long."""
    wanted = {
        (writer.name, number)
        for writer in under.writers
        if writer.topic is subscription.topic
        for number in writer.acknowledged
    }
    try:
        async with asyncio.timeout(CATCH_UP_S_MAX):
            while not subscription.has(wanted):
                await subscription.until_changed()
            while True:
                async with asyncio.timeout(QUIET_S):
                    await subscription.until_changed()
    except TimeoutError:
        return  # quiet, or too late: the report tells which
