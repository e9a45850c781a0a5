"""A message that nobody acknowledges, and the journal of its bundle: both stay small, and it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from danube_common.bus.nats import NatsBus
from danube_common.errors import LogFull
from danube_common.journal.jetstream import JetStreamJournal
from danube_common.model.bundle import Bundle, Family
from danube_common.model.position import position_of
from danube_common.model.subscription import SubscriptionType
from danube_harness.servers.nats_server import NatsServer
from danube_topic_owner.journal.claim import claim_journal
from danube_topic_owner.journal.cursor import Cursor, Range
from danube_topic_owner.journal.events import (
    CursorMoved,
    CursorSet,
    Event,
    SubscriptionCreated,
    cursor_moves,
    encode_events,
)
from danube_topic_owner.journal.writer import JournalWriter

MIB = 1 << 20
BUNDLE = Bundle(Family.FILE, 0)
CREATED = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 0)


@dataclass
class Subscription:
    """A subscription whose cursor is journaled as an owner does it."""

    cursor: Cursor
    key: Hashable = "s"

    def moved(self) -> list[Event]:
        moves = list(cursor_moves(1, "s", self.cursor.mark_delete, self.cursor.take_changes()))
        return [*moves] or [CursorMoved(1, "s", self.cursor.mark_delete, [])]

    def stored(self) -> None:
        pass

    def receive(self, positions: Iterable[int]) -> None:
        for position in positions:
            assert self.cursor.admit(position, position)


class CountedJournal(JetStreamJournal):
    """Counts what is written."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.written_bytes = 0

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        self.written_bytes += len(data)
        return await super().append(bundle, data, expected_sequence=expected_sequence, reserve=reserve)


@pytest.fixture
async def journal(nats_server: NatsServer) -> AsyncIterator[CountedJournal]:
    bus = await NatsBus.connect(nats_server.url, name="test")
    journal = CountedJournal(bus.connection, bytes_max=MIB)
    await journal.open()
    yield journal
    await bus.close()


async def take_over(journal: CountedJournal, epoch: int) -> JournalWriter:
    claim = await claim_journal(journal, BUNDLE, epoch, f"owner {epoch}", time.monotonic)
    return JournalWriter(journal, BUNDLE, claim, on_fenced=lambda: pytest.fail("fenced"))


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_a_stuck_message_runs_ten_times_past_the_journals_bound(journal: CountedJournal) -> None:
    writer = await take_over(journal, 1)
    writing = asyncio.create_task(writer.run())
    writer.record(CREATED)
    subscription = Subscription(Cursor(0))
    sequence = 0
    # Two messages in each frame; the first one of all is never acknowledged, of the others every second one
    # comes late: the most ranges that a subscription can have behind a stuck message.
    late: list[int] = []
    while journal.written_bytes < 10 * MIB:
        frames = range(sequence + 1, sequence + 401)
        sequence = frames[-1]
        messages = [position_of(frame, 0, index) for frame in frames for index in range(2)]
        subscription.receive(messages)
        for position in late:
            subscription.cursor.ack(position, position)
        for position in messages[2::2]:
            subscription.cursor.ack(position, position)
        late = messages[1::2]
        writer.mark_dirty(subscription)
        await writer.flushed()
        assert subscription.cursor.mark_delete == 0
    writer.stop()
    await writing
    journaled = [record async for record in journal.replay(BUNDLE)]
    assert sum(len(record.data) for record in journaled) < MIB
    claim = await claim_journal(journal, BUNDLE, 2, "next", time.monotonic)
    state = claim.state.topics[1].subscriptions["s"]
    assert (state.mark_delete, state.acked) == (0, subscription.cursor.acked_ranges())


@pytest.mark.timeout(120)
async def test_a_journal_that_an_earlier_version_filled_has_room_again_after_a_takeover(
    journal: CountedJournal,
) -> None:
    last = await journal.append(BUNDLE, encode_events([CREATED]), expected_sequence=0)
    ranges: list[tuple[int, int]] = []
    full = False
    while not full:
        more = range(len(ranges) + 1, len(ranges) + 51)
        ranges += [(position_of(frame, 0, 0), position_of(frame, 0, 1)) for frame in more]
        record = encode_events([CursorSet(1, "s", 0, ranges)])
        try:
            last = await journal.append(BUNDLE, record, expected_sequence=last)
        except LogFull:
            full = True
    writer = await take_over(journal, 2)
    writing = asyncio.create_task(writer.run())
    for moved in range(1, 50):
        writer.record(CursorSet(1, "s", moved, []))
        await writer.flushed()
    writer.stop()
    await writing
    claim = await claim_journal(journal, BUNDLE, 3, "next", time.monotonic)
    assert claim.state.topics[1].subscriptions["s"].mark_delete == 49


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_a_million_acknowledged_behind_a_hole_cost_what_a_thousand_do() -> None:
    subscription = Subscription(Cursor(0))
    stuck = position_of(1, 0, 0)
    subscription.receive([stuck])
    sizes = {}
    for frame in range(2, 10_002):
        messages = [position_of(frame, 0, index) for index in range(100)]
        subscription.receive(messages)
        for position in messages:
            subscription.cursor.ack(position, position)
        sizes[frame] = len(encode_events(subscription.moved()))
        assert len(subscription.cursor.acked_ranges()) == 1
    assert max(sizes.values()) <= sizes[11] + 8, "a record after a million is as large as after a thousand"
    assert subscription.cursor.outstanding == 1
    # The next owner reads the stuck message and jumps over the million.
    following = Cursor(subscription.cursor.mark_delete, subscription.cursor.acked_ranges())
    assert following.admit(stuck, stuck)
    assert following.skip_acked(stuck) == position_of(10_001, 0, 99)
    assert following.acked_ranges() == [Range(stuck + 1, position_of(10_001, 0, 99), 1_000_000)]
