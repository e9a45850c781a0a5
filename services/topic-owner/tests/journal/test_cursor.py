from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from danube_topic_owner.journal import cursor as cursor_module
from danube_topic_owner.journal.cursor import Cursor, Range, merge_range

STEPS = st.integers(1, 4)


class CursorMachine(RuleBasedStateMachine):
    """A cursor beside sets: which messages there are, and which are acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = Cursor(0)
        self.messages: list[int] = []
        self.read = 0
        self.acked: set[int] = set()
        self.mark = 0
        self.journaled: list[Range] = []

    @rule(step=STEPS)
    def admit(self, step: int) -> None:
        position = self.read + step
        self.read = position
        self.messages.append(position)
        assert self.cursor.admit(position) is (position not in self.acked)

    @rule(back=st.integers(0, 10))
    def admit_again(self, back: int) -> None:
        assert not self.cursor.admit(self.read - back)

    @rule(position=st.integers(-2, 40))
    def ack_anything(self, position: int) -> None:
        self.ack(position)

    @rule(data=st.data())
    def ack_message(self, data: st.DataObject) -> None:
        if self.messages:
            self.ack(data.draw(st.sampled_from(self.messages[-8:])))

    def ack(self, position: int) -> None:
        ahead = position > self.read
        known = position <= self.cursor.mark_delete or position in self.acked
        assert self.cursor.ack(position) is (not known and (ahead or position in self.messages))
        if ahead or position in self.messages:
            self.acked.add(position)

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, self.read + 4))
        self.cursor.expire(position)
        self.read = max(self.read, position)
        self.acked.update(range(position + 1))

    @rule(step=st.integers(-2, 5))
    def skip(self, step: int) -> None:
        position = self.read + step
        before = self.cursor.mark_delete
        moved = self.cursor.skip_to(position)
        assert moved is (self.cursor.mark_delete > before)
        self.read = max(self.read, position)

    @rule()
    def journal(self) -> None:
        """What is journaled are changes; together they say what the cursor is."""
        for each in self.cursor.take_changes():
            merge_range(self.journaled, each)
        self.journaled = [each for each in self.journaled if each.last > self.cursor.mark_delete]
        assert self.journaled == self.cursor.acked_ranges()
        assert self.cursor.take_changes() == []

    @rule(jumps=st.booleans())
    def restart(self, jumps: bool) -> None:
        """The owner dies; the next one reads on, and may jump over what is acknowledged."""
        self.journal()
        ranges = self.cursor.acked_ranges()
        assert all(first <= last for first, last, _ in ranges)
        assert all(one.last < other.first for one, other in pairwise(ranges))
        self.cursor = Cursor(self.cursor.mark_delete, ranges)
        read_on_behind = self.cursor.mark_delete
        for position in self.messages:
            if position > self.cursor.mark_delete and (not jumps or position > read_on_behind):
                assert self.cursor.admit(position) is (position not in self.acked)
                ahead = [p for p in self.acked if p > max(position, self.cursor.read_position)]
                assert jumps or self.cursor.acked_unread(10_000) == len(ahead)
                read_on_behind = self.cursor.skip_acked(position) if jumps else position
        self.cursor.skip_to(self.read)
        self.read = self.cursor.read_position

    @invariant()
    def ranges_are_as_few_as_what_lies_between_them_allows(self) -> None:
        ahead = len([p for p in self.acked if p > self.read])
        assert len(self.cursor.acked_ranges()) <= self.cursor.outstanding + ahead

    @invariant()
    def backlog_is_counted_without_what_is_acknowledged(self) -> None:
        end = 10_000
        unacked = [p for p in self.messages if p not in self.acked]
        assert self.cursor.unacked_through(end) == self.cursor.outstanding == len(unacked)
        assert self.cursor.first_unacked == min(unacked, default=None)
        ahead = [p for p in self.acked if p > max(self.read, self.cursor.mark_delete)]
        assert self.cursor.acked_unread(end) == len(ahead)

    @invariant()
    def nothing_unacknowledged_is_passed(self) -> None:
        for position in self.messages:
            assert self.cursor.is_acked(position) is (position in self.acked)

    @invariant()
    def mark_delete_stands_before_the_first_unacknowledged(self) -> None:
        mark = self.cursor.mark_delete
        assert mark >= self.mark
        self.mark = mark
        open_ = [p for p in self.messages if p not in self.acked]
        if open_:
            assert mark < open_[0]
            assert all(p <= mark for p in self.messages if p < open_[0])
        else:
            assert mark >= (self.messages[-1] if self.messages else 0)


CursorMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCursor = CursorMachine.TestCase


def test_acknowledgements_far_ahead_are_bounded() -> None:
    cursor = Cursor(0)
    bound = cursor_module.ACKED_AHEAD_MAX
    assert sum(cursor.ack(position) for position in range(2, 4 * bound, 2)) == bound
    assert not cursor.ack(10 * bound)
    assert cursor.admit(1)
    assert cursor.ack(1), "what was read can always be acknowledged"


def test_a_message_read_is_acknowledged_whatever_lies_ahead() -> None:
    cursor = Cursor(0)
    for position in range(10, 10 + cursor_module.ACKED_AHEAD_MAX):
        cursor.ack(position)
    for position in range(1, 6):
        assert cursor.admit(position)
    assert all(cursor.ack(position) for position in (5, 4, 3, 2, 1))
    assert cursor.mark_delete >= 5
