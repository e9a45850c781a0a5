"""Traffic on a platform while it is hurt: every message is accounted for, every silence is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

from danube_client import Reliable, Storage
from danube_harness.traffic.clients import (
    EXCLUSIVE,
    SHARED,
    TICK_S,
    Reader,
    Subscription,
    Topic,
    Writer,
    longest_gap_s,
)
from danube_harness.traffic.history import Receipt

OPEN_S_MAX = 60.0
FLOW_S_MAX = 60.0
CATCH_UP_S_MAX = 90.0
VOLATILE_QUIET_S = 8.0
"""A topic that may have lost something has all that it will get when nothing came for so long."""
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


def all_in_turn(urls: Sequence[str], number: int) -> list[str]:
    """The gateways that client ``number`` knows: all of them, another one first for each client."""
    first = number % len(urls)
    return [*urls[first:], *urls[:first]]


class Load:
    """One or more writers for each topic, and the readers of its subscriptions.

    Attributes:
        writers: of all topics.
        subscriptions: of all topics, with their readers.
    """

    def __init__(self) -> None:
        self.writers: list[Writer] = []
        self.subscriptions: list[Subscription] = []
        self._stop = asyncio.Event()
        self._writing: list[asyncio.Task[None]] = []
        self._reading: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def run(
        cls,
        urls: Sequence[str],
        topics: Sequence[Topic] = TOPICS,
        *,
        duration_s: float = 0.0,
        addresses: Callable[[Sequence[str], int], list[str]] = all_in_turn,
        open_s_max: float = OPEN_S_MAX,
    ) -> AsyncIterator[Self]:
        """Open the writers one after the other, then the readers; end all clients at once when it is left.

        Args:
            urls: of the gateways.
            topics: what is written and read.
            duration_s: of the traffic; late readings start after their part of it.
            addresses: which gateways a client knows, by the client's number.
            open_s_max: how long a writer may take to open.
        """
        load = cls()
        async with asyncio.TaskGroup() as group:
            try:
                for topic in topics:
                    for number in range(1, topic.writers + 1):
                        name = f"{topic.name.rpartition('/')[2]}-{number}"
                        writer = Writer(name, topic, addresses(urls, len(load.writers)))
                        load.writers.append(writer)
                        opened = asyncio.Event()
                        load._writing.append(group.create_task(writer.run(opened, load._stop), name=name))
                        async with asyncio.timeout(open_s_max):
                            await opened.wait()
                for topic in topics:
                    for reading in topic.readings:
                        subscription = Subscription(topic, reading)
                        load.subscriptions.append(subscription)
                        for number in range(1, reading.readers + 1):
                            clients = addresses(urls, len(load._reading))
                            reader = Reader(f"{reading.name}-{number}", subscription, clients)
                            subscription.readers.append(reader)
                            task = group.create_task(
                                reader.run(reading.starts_at * duration_s), name=reader.name
                            )
                            load._reading.append(task)
                yield load
            finally:
                for task in (*load._writing, *load._reading):
                    task.cancel()

    async def until_flowing(self) -> None:
        """Wait until every writer got an answer and every subscription a new message since the call.

        Raises:
            AssertionError: one did not within FLOW_S_MAX.
        """
        since = time.monotonic()
        while silent := self._silent_since(since):
            if time.monotonic() > since + FLOW_S_MAX:
                raise AssertionError(f"nothing came for {', '.join(silent)}:\n{self.text()}")
            await asyncio.sleep(0.05)  # what clients see has no event for others

    async def stop_writing(self) -> None:
        """End the writers; returns when all that they sent is answered."""
        self._stop.set()
        await asyncio.gather(*self._writing)

    async def caught_up(self, limit_s: float = CATCH_UP_S_MAX, *, quiet_s: float = 0.0) -> bool:
        """Wait until every subscription has received every acknowledged message.

        Args:
            limit_s: how long to wait at most.
            quiet_s: then wait on until nothing, repeats included, came for so long.

        Returns:
            Whether every subscription has received all.
        """
        return all(
            await asyncio.gather(*(self._caught_up(one, limit_s, quiet_s) for one in self.subscriptions))
        )

    async def finish(self) -> None:
        """Stop the writers and wait until every subscription has received every acknowledged message.

        Raises:
            AssertionError: a message did not come within CATCH_UP_S_MAX.
        """
        await self.stop_writing()
        if not await self.caught_up():
            raise AssertionError(f"not everything came within {CATCH_UP_S_MAX} s:\n{self.text()}")

    def silence(self, since: float, until: float) -> Silence:
        """The longest silence of any client between two monotonic times."""
        return Silence(
            max(longest_gap_s(writer.acknowledged_at, since, until) for writer in self.writers),
            max(longest_gap_s(one.progressed_at, since, until) for one in self.subscriptions),
        )

    def text(self) -> str:
        """What became of every message: a line for each subscription, and the errors of the clients."""
        lines = [f"{one.name}: {one.report(self.writers).text()}" for one in self.subscriptions]
        readers = [reader for one in self.subscriptions for reader in one.readers]
        errors = {one.name: one.errors for one in self.writers} | {one.name: one.errors for one in readers}
        for name, counted in errors.items():
            lines += [f"  {name}: {count} x {error}" for error, count in counted.items()]
        return "\n".join(lines)

    @property
    def lost(self) -> int:
        """Acknowledged messages that a subscription did not receive."""
        return sum(one.report(self.writers).lost for one in self.subscriptions)

    @property
    def problems(self) -> list[str]:
        """Every broken guarantee: loss, messages nobody sent, wrong order where the subscription has one."""
        found = []
        for one in self.subscriptions:
            report = one.report(self.writers)
            if not report.ok or report.received == 0:
                found.append(f"{one.name}: {report.text()}")
            if report.reordered and one.ordered:
                found.append(f"{one.name}: out of order: {report.text()}")
        return found

    def check(self) -> None:
        """Raises AssertionError if there are problems."""
        problems = self.problems
        assert not problems, "\n".join(problems)

    async def _caught_up(self, one: Subscription, limit_s: float, quiet_s: float) -> bool:
        wanted = self._wanted_of(one)
        try:
            async with asyncio.timeout(limit_s):
                while not one.has(wanted):
                    async with asyncio.timeout(None if one.topic.survives_nats else VOLATILE_QUIET_S):
                        await one.until_changed()
                while self.unsettled(one):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(TICK_S):  # dead letters come to another subscription
                            await one.until_changed()
                while quiet_s:
                    async with asyncio.timeout(quiet_s):
                        await one.until_changed()
        except TimeoutError:
            pass  # quiet, or too late: what was received tells which
        return one.has(wanted)

    def unsettled(self, one: Subscription) -> set[Receipt]:
        """What a subscription of failing readers has not acknowledged and is no dead letter."""
        dead = next((each for each in self.subscriptions if each.topic.dead_letters), None)
        if dead is None or not one.reading.failing:
            return set()
        return one.unsettled(self._wanted_of(one), dead)

    def _wanted_of(self, one: Subscription) -> set[Receipt]:
        return {
            (writer.name, number)
            for writer in self.writers
            if writer.topic is one.topic
            for number in writer.acknowledged
        }

    def _silent_since(self, since: float) -> list[str]:
        moments = {one.name: one.acknowledged_at for one in self.writers}
        moments |= {one.name: one.progressed_at for one in self.subscriptions}
        return [name for name, when in moments.items() if not when or when[-1] < since]
