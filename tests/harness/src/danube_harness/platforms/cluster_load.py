"""Traffic on a cluster while it is hurt: nothing acknowledged may be lost, and every silence is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from danube_client import Reliable, Storage
from danube_harness.chaos.traffic import EXCLUSIVE, SHARED, Reader, Subscription, Topic, Writer, longest_gap_s

OPEN_S_MAX = 60.0
FLOW_S_MAX = 60.0
CATCH_UP_S_MAX = 90.0
DISK = Reliable(storage=Storage.DISK, segment_size_mib=1)
TOPICS = (
    Topic("/default/orders", DISK, (EXCLUSIVE, SHARED)),
    Topic("/default/invoices", DISK, (EXCLUSIVE,), in_flight_max=1),
    Topic("/default/parcels", DISK, (EXCLUSIVE,)),
)


@dataclass(frozen=True, slots=True)
class Silence:
    """The longest time without an answer for a writer, and without a new message for a subscription."""

    publish_s: float
    delivery_s: float

    def __str__(self) -> str:
        return f"longest silence: publish {self.publish_s:.1f} s, delivery {self.delivery_s:.1f} s"


class Load:
    """One or more writers for each topic, and the readers of its subscriptions, over all gateways in turn."""

    def __init__(self) -> None:
        self.writers: list[Writer] = []
        self.subscriptions: list[Subscription] = []
        self._stop = asyncio.Event()
        self._writing: list[asyncio.Task[None]] = []
        self._reading: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def run(cls, urls: Sequence[str], topics: Sequence[Topic] = TOPICS) -> AsyncIterator[Self]:
        """Messages flow on every subscription when it is entered. Leaving it ends the clients at once."""
        load = cls()
        try:
            await load._open(urls, topics)
            await load.until_flowing()
            yield load
        finally:
            tasks = [*load._writing, *load._reading]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_flowing(self) -> None:
        """Until every writer has had an answer and every subscription a new message since now.

        Raises:
            AssertionError: one has not within FLOW_S_MAX.
        """
        since = time.monotonic()
        while silent := self._silent_since(since):
            if time.monotonic() > since + FLOW_S_MAX:
                raise AssertionError(f"nothing came for {', '.join(silent)}:\n{self.text()}")
            self._raise_failures()
            await asyncio.sleep(0.05)  # what clients see has no event for others

    async def finish(self) -> None:
        """End the writers with an answer to all they sent, and wait until every subscription has it.

        Raises:
            AssertionError: something acknowledged did not come within CATCH_UP_S_MAX.
        """
        self._stop.set()
        await asyncio.gather(*self._writing)
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX):
                for subscription in self.subscriptions:
                    wanted = {
                        (writer.name, number)
                        for writer in self.writers
                        if writer.topic is subscription.topic
                        for number in writer.acknowledged
                    }
                    while not subscription.has(wanted):
                        await subscription.until_changed()
        except TimeoutError:
            raise AssertionError(f"not everything came within {CATCH_UP_S_MAX} s:\n{self.text()}") from None

    def silence(self, since: float, until: float) -> Silence:
        """The longest of any client between two moments (monotonic)."""
        return Silence(
            max(longest_gap_s(writer.acknowledged_at, since, until) for writer in self.writers),
            max(longest_gap_s(one.progressed_at, since, until) for one in self.subscriptions),
        )

    def text(self) -> str:
        """What became of everything: a line for each subscription, and what clients complained about."""
        lines = [f"{one.name}: {one.report(self.writers).text()}" for one in self.subscriptions]
        readers = [reader for one in self.subscriptions for reader in one.readers]
        errors = {one.name: one.errors for one in self.writers} | {one.name: one.errors for one in readers}
        for name, counted in errors.items():
            lines += [f"  {name}: {count} x {error}" for error, count in counted.items()]
        return "\n".join(lines)

    @property
    def lost(self) -> int:
        """Acknowledged messages that a subscription did not get."""
        return sum(one.report(self.writers).lost for one in self.subscriptions)

    def check(self) -> None:
        """Nothing lost, nothing made up, nothing out of order where the subscription orders."""
        for one in self.subscriptions:
            report = one.report(self.writers)
            assert report.ok, f"{one.name}: {report.text()}"
            if one.reading is EXCLUSIVE and one.topic.in_flight_max == 1:
                assert not report.reordered, f"{one.name}: {report.text()}"

    async def _open(self, urls: Sequence[str], topics: Sequence[Topic]) -> None:
        for topic in topics:
            for number in range(1, topic.writers + 1):
                name = f"{topic.name.rpartition('/')[2]}-{number}"
                writer = Writer(name, topic, _turned(urls, len(self.writers)))
                self.writers.append(writer)
                opened = asyncio.Event()
                self._writing.append(asyncio.create_task(writer.run(opened, self._stop), name=name))
                async with asyncio.timeout(OPEN_S_MAX):
                    await opened.wait()
            for reading in topic.readings:
                subscription = Subscription(topic, reading)
                self.subscriptions.append(subscription)
                for number in range(1, reading.readers + 1):
                    addresses = _turned(urls, len(self._reading))
                    reader = Reader(f"{reading.name}-{number}", subscription, addresses)
                    subscription.readers.append(reader)
                    self._reading.append(asyncio.create_task(reader.run(), name=reader.name))

    def _silent_since(self, since: float) -> list[str]:
        """Names of the writers and subscriptions that nothing has come for."""
        moments = {one.name: one.acknowledged_at for one in self.writers}
        moments |= {one.name: one.progressed_at for one in self.subscriptions}
        return [name for name, when in moments.items() if not when or when[-1] < since]

    def _raise_failures(self) -> None:
        for task in (*self._writing, *self._reading):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error


def _turned(urls: Sequence[str], by: int) -> list[str]:
    """All gateways, another one first for each client."""
    home = by % len(urls)
    return [*urls[home:], *urls[:home]]
