from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from danube_common.errors import JournalFenced, LogFull, LogUnavailable
from danube_common.model.bundle import Bundle, Family
from danube_common.model.subscription import SubscriptionType
from danube_harness.memory.journal import MemoryJournal
from danube_topic_owner.journal import events as journal_events
from danube_topic_owner.journal import writer as journal_writer
from danube_topic_owner.journal.claim import JournalClaim
from danube_topic_owner.journal.cursor import Range
from danube_topic_owner.journal.events import (
    Claimed,
    ConsumerCreated,
    CursorMoved,
    CursorSet,
    Event,
    SnapshotBegan,
    SnapshotEnded,
    SubscriptionCreated,
    decode_events,
    encode_events,
)
from danube_topic_owner.journal.state import BundleState
from danube_topic_owner.journal.writer import JournalWriter

BUNDLE = Bundle(Family.FILE, 0)
CREATED = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 0)


class TestedJournal(MemoryJournal):
    """Counts, fails and holds appends as a test wants."""

    __test__ = False

    def __init__(self, *, bytes_max: int = 1 << 30) -> None:
        super().__init__(bytes_max=bytes_max)
        self.failures = 0
        self.attempts = 0
        self.written: list[list[Event]] = []
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        self.attempts += 1
        await self.open_gate.wait()
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("not now")
        sequence = await super().append(bundle, data, expected_sequence=expected_sequence, reserve=reserve)
        self.written.append(decode_events(data))
        return sequence

    async def events(self) -> list[list[Event]]:
        return [decode_events(record.data) async for record in self.replay(BUNDLE)]

    def last_sequence(self) -> int:
        return self._records[BUNDLE][-1].sequence

    async def state(self) -> BundleState:
        state = BundleState()
        for events in await self.events():
            state.fold(events)
        return state


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "CURSOR_INTERVAL_S", 0.001)
    monkeypatch.setattr(journal_writer, "RETRY_WAIT_S", 0.001)


@dataclass(frozen=True)
class Moved:
    """A subscription whose cursor moved."""

    event: CursorMoved

    @property
    def key(self) -> str:
        return self.event.subscription

    def moved(self) -> list[Event]:
        return [self.event]

    def stored(self) -> None:
        pass


class Writing:
    """A writer at work, and whether it was fenced."""

    def __init__(self, journal: TestedJournal, sequence: int = 0) -> None:
        self.fenced = 0
        self.state = BundleState()
        self.writer = JournalWriter(
            journal,
            BUNDLE,
            JournalClaim(self.state, sequence, float("-inf")),
            on_fenced=self._on_fenced,
        )

    def _on_fenced(self) -> None:
        self.fenced += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[JournalWriter]:
        task = asyncio.create_task(self.writer.run())
        try:
            yield self.writer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Until the journal's counters say so: they tell nobody, so there is nothing else to wait for."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.001)


async def test_what_is_flushed_is_in_the_journal() -> None:
    journal = TestedJournal()
    async with Writing(journal).running() as writer:
        writer.record(Claimed(7, "me"), CREATED)
        await writer.flushed()
        assert journal.written[0] == [Claimed(7, "me"), CREATED]
        assert "s" in (await journal.state()).topics[1].subscriptions


async def test_an_event_counts_before_it_is_durable_and_is_answered_after() -> None:
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        journal.open_gate.clear()
        writer.record(CREATED)
        assert "s" in writing.state.topics[1].subscriptions
        flushed = asyncio.create_task(writer.flushed())
        await until(lambda: journal.attempts == 1)
        assert not flushed.done()
        journal.open_gate.set()
        await flushed


async def test_what_gathers_while_a_record_is_written_goes_in_one_record() -> None:
    journal = TestedJournal()
    async with Writing(journal).running() as writer:
        writer.record(Claimed(1, "me"))
        await writer.flushed()
        await until(lambda: journal.attempts == 2)  # its snapshot
        journal.open_gate.clear()
        writer.record(CREATED)
        first = asyncio.create_task(writer.flushed())
        await until(lambda: journal.attempts == 3)
        created = [ConsumerCreated(1, "s", number, f"c{number}") for number in range(50)]
        waiting = []
        for event in created:
            writer.record(event)
            waiting.append(asyncio.create_task(writer.flushed()))
        journal.open_gate.set()
        await asyncio.gather(first, *waiting)
        assert journal.written[-1] == created


async def test_an_unavailable_journal_is_tried_until_it_answers() -> None:
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        journal.failures = 4
        writer.record(CREATED)
        await writer.flushed()
        assert journal.written[0] == [CREATED]
        assert writing.fenced == 0


async def test_moved_cursors_are_written_without_being_asked_for() -> None:
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(CREATED)
        await writer.flushed()
        writer.mark_dirty(Moved(CursorMoved(1, "s", 9, [Range(11, 12, 2)])))
        await until(lambda: writing.state.topics[1].subscriptions["s"].mark_delete == 9)
        await writer.flushed()
        assert (await journal.state()).topics == writing.state.topics


async def test_nothing_is_written_while_nothing_happens() -> None:
    journal = TestedJournal()
    async with Writing(journal).running() as writer:
        writer.record(CREATED)
        await writer.flushed()
        await until(lambda: journal.attempts == 2)
        for _ in range(5):
            await writer.flushed()
        assert journal.attempts == 2


async def test_another_writer_stops_this_one_and_fails_what_waits() -> None:
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(Claimed(1, "me"))
        await writer.flushed()
        await until(lambda: len(journal._records[BUNDLE]) == 1)
        last = journal.last_sequence()
        await journal.append(BUNDLE, encode_events([Claimed(2, "you")]), expected_sequence=last)
        writer.record(CREATED)
        with pytest.raises(JournalFenced):
            await writer.flushed()
        assert writing.fenced == 1
        with pytest.raises(JournalFenced):
            await writer.flushed()
    assert [event for record in await journal.events() for event in record][-1] == Claimed(2, "you")
    assert not (await journal.state()).topics


async def test_of_two_writers_at_one_place_one_wins() -> None:
    journal = TestedJournal()
    one, other = Writing(journal), Writing(journal)
    async with one.running() as first, other.running() as second:
        first.record(Claimed(1, "one"))
        second.record(Claimed(2, "other"))
        results = await asyncio.gather(first.flushed(), second.flushed(), return_exceptions=True)
    assert sum(isinstance(result, JournalFenced) for result in results) == 1
    assert one.fenced + other.fenced == 1


async def test_snapshots_shorten_the_journal_and_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "SNAPSHOT_BYTES", 1000)
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(Claimed(3, "me"), CREATED)
        for number in range(40):
            writer.record(ConsumerCreated(1, "s", number, f"c{number}"))
            writer.mark_dirty(Moved(CursorMoved(1, "s", number, [])))
            await writer.flushed()
            records = await journal.events()
            assert len(records) <= 12
            rebuilt = await journal.state()
            assert set(range(number + 1)) <= rebuilt.topics[1].subscriptions["s"].consumers.keys()
        assert isinstance(records[0][0], SnapshotBegan)
        assert isinstance(records[0][-1], SnapshotEnded)
        assert rebuilt.topics == writing.state.topics
        assert rebuilt.epoch == 3


async def test_a_new_writer_goes_on_where_the_last_one_stopped() -> None:
    journal = TestedJournal()
    async with Writing(journal).running() as writer:
        writer.record(CREATED)
        await writer.flushed()
        await until(lambda: journal.attempts == 2)
    last = journal.last_sequence()
    writing = Writing(journal, last)
    writing.state.fold((await journal.events())[-1])
    async with writing.running() as writer:
        writer.record(ConsumerCreated(1, "s", 5, "c"))
        await writer.flushed()
    assert (await journal.state()).topics[1].subscriptions["s"].consumers == {5: "c"}


async def test_stopping_writes_what_is_queued_and_the_cursors() -> None:
    journal = TestedJournal()
    writing = Writing(journal)
    running = asyncio.create_task(writing.writer.run())
    writing.writer.record(CREATED)
    writing.writer.mark_dirty(Moved(CursorMoved(1, "s", 4, [])))
    writing.writer.stop()
    await running
    assert (await journal.state()).topics[1].subscriptions["s"].mark_delete == 4


@pytest.mark.parametrize("end", ["stop", "cancel"])
@pytest.mark.parametrize("during", ["snapshot", "batch"])
async def test_nobody_waits_for_a_writer_that_has_ended(end: str, during: str) -> None:
    journal = TestedJournal()
    writer = Writing(journal).writer

    async def record() -> None:
        writer.record(ConsumerCreated(1, "s", 5, "c"))
        await writer.flushed()

    running = asyncio.create_task(writer.run())
    writer.record(CREATED)
    await writer.flushed()  # its snapshot comes next
    if during == "batch":
        await until(lambda: journal.attempts == 2)
    journal.open_gate.clear()
    waiting = asyncio.create_task(record())
    await until(lambda: journal.attempts == (2 if during == "snapshot" else 3))
    if end == "stop":
        writer.stop()
        journal.open_gate.set()
    else:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (result,) = await asyncio.gather(asyncio.wait_for(waiting, 10), return_exceptions=True)
    assert result is None or isinstance(result, JournalFenced)
    with pytest.raises(JournalFenced):
        await writer.flushed()


async def test_a_full_journal_makes_room_by_a_snapshot_and_nobody_notices() -> None:
    journal = TestedJournal(bytes_max=4000)
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(Claimed(3, "me"), CREATED)
        for number in range(500):
            writer.record(CursorSet(1, "s", number, []))
            await writer.flushed()
        assert (await journal.state()).topics == writing.state.topics


async def test_a_journal_that_stays_full_refuses_and_goes_on_when_there_is_room() -> None:
    journal = TestedJournal(bytes_max=2000)
    other = Bundle(Family.FILE, 1)
    await journal.append(other, encode_events([Claimed(1, "x" * 1900)]), expected_sequence=0)
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(Claimed(3, "me"), CREATED)
        for number in range(100):
            writer.record(ConsumerCreated(1, "s", number, f"consumer {number}"))
        for _ in range(3):
            with pytest.raises(LogFull):
                await writer.flushed()
        assert not writer._pending, "events do not pile up: the snapshot will contain them"
        journal._records.pop(other)
        journal._bytes_max = 10_000
        await until(lambda: BUNDLE in journal._records)
        await writer.flushed()
        assert (await journal.state()).topics == writing.state.topics


async def test_an_owner_that_dies_in_a_snapshot_leaves_everything_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_events, "RECORD_BYTES_MAX", 300)
    monkeypatch.setattr(journal_writer, "SNAPSHOT_BYTES", 5000)
    journal = TestedJournal()
    writing = Writing(journal)
    async with writing.running() as writer:
        writer.record(Claimed(3, "me"), CREATED)
        for number in range(100):
            writer.record(ConsumerCreated(1, "s", number, f"consumer {number}"))
            await writer.flushed()
            assert (await journal.state()).topics == writing.state.topics
    written = [event for record in journal.written for event in record]
    assert sum(isinstance(event, SnapshotBegan) for event in written) > 3
