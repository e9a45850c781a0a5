from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import LogUnavailable
from danube_common.log.port import LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.wire.frame import Frame, encode_frame
from danube_harness.memory.log import MemoryLog
from danube_topic_owner.catchup.log_catchup import LogCatchUp
from danube_topic_owner.catchup.offset_fold import OffsetFold, counted
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.log_offsets import LogOffsets
from danube_topic_owner.log_reader import LogExtent

BUNDLE = Bundle.parse("f0")


class Reader:
    """A subscription behind the tail, with room for some frames at a time."""

    def __init__(self, next_sequence: int, tail: int) -> None:
        self.next_sequence = next_sequence
        self.at_tail = next_sequence > tail
        self.room = 0
        self.taken: list[int] = []

    @property
    def wants_backlog(self) -> bool:
        return not self.at_tail and self.room > 0

    def offer_frame(self, sequence: int, frame: Frame, offsets: LogOffsets) -> None:
        assert self.room > 0
        if frame.sections:
            assert offsets.of(1, position_of(sequence, 0, 0)) == before(sequence)
        assert frame.sections or sequence % 7 == 0
        self.room -= 1
        self.taken.append(sequence)

    def read_past(self, sequence: int) -> None:
        self.next_sequence = sequence + 1

    def reach_tail(self) -> None:
        self.at_tail = True

    def live(self, sequence: int) -> None:
        """As a subscription does: without room it falls behind."""
        if self.at_tail and self.room > 0:
            self.room -= 1
            self.taken.append(sequence)
        elif self.at_tail:
            self.at_tail = False
            self.next_sequence = sequence


def before(sequence: int) -> int:
    """Return how many messages are before a frame: every seventh is damaged."""
    return sequence - 1 - (sequence - 1) // 7


class World(MemoryLog):
    """A log that grows and is read by its live feed while subscriptions catch up."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.extent = LogExtent()
        self.readers: list[Reader] = []
        self.failing = False
        self.offsets = LogOffsets()

    def catch_up(self, on_below: Callable[[], None] = lambda: None) -> LogCatchUp:
        """Return what is tested, over the parts of a bundle's context that it uses."""
        self.offsets.start(self.extent.tail, {1: before(self.extent.tail + 1)})
        dispatcher = SimpleNamespace(lagging=lambda: self.readers, mark_ready=lambda _: None)
        ports = SimpleNamespace(log=self)
        parts = SimpleNamespace(
            bundle=BUNDLE, ports=ports, extent=self.extent, dispatcher=dispatcher, offsets=self.offsets
        )
        context = cast("OwnerContext", parts)
        return LogCatchUp(context, OffsetFold(context, None), on_below=on_below)

    async def grow(self) -> None:
        number = self._stored[BUNDLE].last_sequence + 1
        frame = encode_frame(1, number, [(1, [b"x"])]) if number % 7 else b"damaged on disk"
        await self.append(BUNDLE, frame, frame_id=str(number), timeout_s=1)

    def advance(self) -> None:
        """The live feed is a little further."""
        last = self._stored[BUNDLE].last_sequence
        while self.extent.tail < last and self.random.random() < 0.7:
            self.extent.tail += 1
            for entry in self._stored[BUNDLE].entries:
                if entry.sequence == self.extent.tail:
                    self.offsets.append(counted(entry))
            for reader in self.readers:
                reader.live(self.extent.tail)

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        if self.failing:
            self.failing = False
            raise LogUnavailable("not now")
        entries = await super().read(
            bundle, from_sequence, frames_max=min(frames_max, self.random.randint(1, 6)), bytes_max=bytes_max
        )
        if self.random.random() < 0.3:
            await self.grow()
        self.advance()
        return entries


@given(st.lists(st.integers(1, 15), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 1 << 32))
def test_every_reader_gets_every_frame_once_and_in_order_from_its_position(
    starts: list[int], frames: int, seed: int
) -> None:
    async def scenario() -> None:
        random = Random(seed)
        world = World(random)
        await world.open(BUNDLE)
        for _ in range(frames):
            await world.grow()
        world.extent.tail = random.randint(0, frames)
        starts_possible = [min(start, world.extent.tail + 1) for start in starts]
        world.readers = [Reader(start, world.extent.tail) for start in starts_possible]
        log_catchup = world.catch_up()
        for _ in range(200):
            world.failing = random.random() < 0.1
            for reader in world.readers:
                reader.room = max(reader.room, random.choice([0, 0, 1, 3, 50]))
            try:
                await log_catchup._serve()
            except LogUnavailable:
                continue
            world.advance()
        for _ in range(100):
            for reader in world.readers:
                reader.room = 1000
            await log_catchup._serve()
            world.advance()
        last = (await world.bounds(BUNDLE)).last_sequence
        assert world.extent.tail == last
        for reader, start in zip(world.readers, starts_possible, strict=True):
            assert reader.taken == list(range(start, last + 1))
            assert reader.at_tail

    asyncio.run(scenario())


async def test_what_was_purged_is_left_to_the_archive_and_not_passed_over() -> None:
    world = World(Random(1))
    await world.open(BUNDLE)
    for _ in range(20):
        await world.grow()
    world.extent.tail = 20
    await world.purge(BUNDLE, 12)
    world.readers = [Reader(start, 20) for start in (3, 12, 15)]
    for reader in world.readers:
        reader.room = 1000
    world.random.random = lambda: 1.0  # type: ignore[method-assign]
    below: list[int] = []
    log_catchup = world.catch_up(lambda: below.append(world.extent.floor))
    await log_catchup._serve()
    assert world.extent.floor == 13
    assert below
    assert set(below) == {13}
    assert [reader.taken for reader in world.readers] == [[], [], [*range(15, 21)]]
    assert [reader.next_sequence for reader in world.readers] == [3, 12, 21]
    await world.purge(BUNDLE, 20)
    world.readers = [Reader(13, 20), Reader(20, 20)]
    for reader in world.readers:
        reader.room = 1
    await log_catchup._serve()
    assert world.extent.floor == 21
    assert [(reader.taken, reader.at_tail) for reader in world.readers] == [([], False), ([], False)]


async def test_a_log_that_ends_before_what_was_read_of_it_is_asked_again() -> None:
    world = World(Random(1))
    await world.open(BUNDLE)
    await world.grow()
    world.extent.tail = 3
    world.readers = [Reader(2, 3)]
    world.readers[0].room = 1
    log_catchup = world.catch_up()
    with pytest.raises(LogUnavailable):
        await log_catchup._serve()
    assert world.readers[0].next_sequence == 2
