from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from danube_client.stream.batch import TABLE_ENTRY_BYTES, Entry
from danube_client.stream.outbox import Limits, Outbox, SentBatch

PARTITIONS = 2
LIMITS = st.builds(
    Limits,
    batch_bytes=st.integers(40, 200),
    batch_messages=st.integers(1, 5),
    window_bytes=st.integers(1, 500),
    window_messages=st.integers(1, 12),
    pipelined=st.booleans(),
)


def test_a_sequence_that_was_never_sent_is_of_another_program() -> None:
    outbox = Outbox(lambda _partition, first, entries: (first, entries))
    assert not outbox.is_overtaken([7]), "an earlier run of this program"
    outbox.open([7], Limits())
    outbox.add(0, (b"", b"x", b"", 1, None))
    assert outbox.next() is not None
    assert not outbox.is_overtaken([8])
    assert outbox.is_overtaken([9])


class Outboxes(RuleBasedStateMachine):
    """A producer and a platform that stores each sequence once, with a connection that may be lost."""

    @initialize(limits=LIMITS)
    def begin(self, limits: Limits) -> None:
        self.limits = limits
        self.outbox = Outbox(self.seal)
        self.outbox.open([0] * PARTITIONS, limits)
        self.posted: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.stored: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.last = [0] * PARTITIONS
        self.answered: set[int] = set()
        self.on_the_way: list[SentBatch] = []
        self.boundaries: dict[tuple[int, int], list[int]] = {}
        self.number = 0

    def seal(self, partition: int, first: int, entries: Sequence[Entry]) -> list[int]:
        numbers = [entry[4] for entry in entries]
        assert self.boundaries.setdefault((partition, first), numbers) == numbers
        return numbers

    @rule(partition=st.integers(0, PARTITIONS - 1), size=st.integers(0, 90))
    def post(self, partition: int, size: int) -> None:
        self.number += 1
        self.posted[partition].append(self.number)
        self.outbox.add(partition, (b"", b"", b"", size, self.number))

    @rule()
    def send(self) -> None:
        while (batch := self.outbox.next()) is not None:
            self.on_the_way.append(batch)
            if len(batch.outcomes) > 1:
                assert batch.body_bytes <= self.limits.batch_bytes
            assert len(batch.outcomes) <= self.limits.batch_messages

    @precondition(lambda self: self.on_the_way)
    @rule()
    def store(self) -> None:
        batch = self.on_the_way.pop(0)
        if batch.last_sequence > self.last[batch.partition]:
            assert batch.first_sequence > self.last[batch.partition]
            self.last[batch.partition] = batch.last_sequence
            self.stored[batch.partition] += batch.request
        for done in self.outbox.stored(batch.partition, batch.last_sequence):
            self.answered.update(done.outcomes)

    @precondition(lambda self: self.on_the_way)
    @rule()
    def refuse_for_a_time(self) -> None:
        """A batch that may be stored later; the platform refuses what is behind it, too."""
        first = self.on_the_way[0]
        same = [batch for batch in self.on_the_way if batch.partition == first.partition]
        if same[0].last_sequence <= self.last[first.partition]:
            return  # it is stored already, and that is what the platform would say
        for batch in same:
            self.on_the_way.remove(batch)
            back = self.outbox.refused(batch.partition, batch.first_sequence)
            if back is not None:
                entries: list[Entry] = [(b"", b"", b"", 10, number) for number in back.outcomes]
                self.outbox.give_back(batch.partition, entries)
        for partition in self.outbox.releasable():
            self.outbox.release(partition)

    @rule(lost=st.integers(0, 20))
    def lose_the_connection(self, lost: int) -> None:
        """Some of what was on its way is stored and not answered, the rest is gone."""
        for batch in self.on_the_way[:lost]:
            if batch.last_sequence > self.last[batch.partition]:
                self.last[batch.partition] = batch.last_sequence
                self.stored[batch.partition] += batch.request
        self.on_the_way.clear()
        self.outbox.open(self.last, self.limits)

    @invariant()
    def nothing_is_doubled_or_out_of_order(self) -> None:
        if not hasattr(self, "outbox"):
            return
        for posted, stored in zip(self.posted, self.stored, strict=True):
            assert stored == posted[: len(stored)]
            assert self.answered.isdisjoint(posted[len(stored) :])

    @invariant()
    def the_window_holds(self) -> None:
        if not hasattr(self, "outbox"):
            return
        assert self.outbox.in_flight_messages == sum(len(batch.outcomes) for batch in self.on_the_way)
        assert self.outbox.in_flight_bytes == sum(batch.body_bytes for batch in self.on_the_way)
        if len(self.on_the_way) > 1:
            assert self.outbox.in_flight_messages <= self.limits.window_messages
            assert self.outbox.in_flight_bytes <= self.limits.window_bytes

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        for _ in range(1000):
            self.send()
            if not self.on_the_way:
                break
            self.store()
        assert self.stored == self.posted
        assert self.answered == {number for posted in self.posted for number in posted}
        assert self.outbox.empty


TestOutbox = Outboxes.TestCase
TestOutbox.settings = settings(stateful_step_count=40)


def sealed(_partition: int, _first: int, entries: Sequence[Entry]) -> int:
    return len(entries)


def entry(size: int = 10) -> Entry:
    return b"", b"", b"", size, None


def test_what_gathers_while_a_batch_is_on_its_way_is_the_next_batch() -> None:
    outbox = Outbox(sealed)
    outbox.open([0], Limits(batch_bytes=1000, batch_messages=100))
    outbox.add(0, entry())
    first = outbox.next()
    assert first is not None
    assert first.request == 1
    for _ in range(5):
        outbox.add(0, entry())
    assert outbox.next() is None
    outbox.stored(0, 1)
    second = outbox.next()
    assert second is not None
    assert (second.first_sequence, second.request) == (2, 5)


def test_full_batches_do_not_wait_for_the_one_ahead() -> None:
    outbox = Outbox(sealed)
    outbox.open([41], Limits(batch_bytes=3 * (10 + TABLE_ENTRY_BYTES), batch_messages=100))
    for _ in range(8):
        outbox.add(0, entry())
    batches = [outbox.next() for _ in range(3)]
    assert [batch and (batch.first_sequence, batch.request) for batch in batches] == [(42, 3), (45, 3), None]


def test_without_pipelining_a_partition_has_one_batch_on_its_way() -> None:
    outbox = Outbox(sealed)
    outbox.open([0], Limits(batch_messages=2, pipelined=False))
    for _ in range(4):
        outbox.add(0, entry())
    assert outbox.next() is not None
    assert outbox.next() is None
