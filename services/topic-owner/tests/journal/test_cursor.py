from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from danube_topic_owner.journal import cursor as cursor_module
from danube_topic_owner.journal.cursor import Cursor, Range, Span, merge_range

STEPS = st.integers(1, 4)
COUNTS = st.sampled_from([1, 1, 2, 3, 6])


def positions(spans: list[Span]) -> list[int]:
    return [position for first, last in spans for position in range(first, last + 1)]


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
        self.ahead: set[int] = set()
        """Positions that were acknowledged as a run before they were read."""
        self.exact = True
        """Whether each of these was a message when it was read."""

    @rule(step=STEPS, count=COUNTS)
    def admit(self, step: int, count: int) -> None:
        first = self.read + step
        self.admit_run(first, first + count - 1)

    @rule(back=st.integers(0, 10), count=COUNTS)
    def admit_again(self, back: int, count: int) -> None:
        """The parts of a run that were read before are passed over."""
        self.admit_run(self.read - back, self.read - back + count - 1)

    def admit_run(self, first: int, last: int) -> None:
        new = range(max(first, self.read + 1), last + 1)
        self.pass_over(first - 1)
        self.messages.extend(new)
        self.read = max(self.read, last)
        assert positions(self.cursor.admit(first, last)) == [p for p in new if p not in self.acked]

    def pass_over(self, position: int) -> None:
        """Nothing that was not read up to ``position`` is a message."""
        self.exact &= not any(self.read < each <= position for each in self.ahead)

    @rule(position=st.integers(-2, 40), count=COUNTS)
    def ack_anything(self, position: int, count: int) -> None:
        self.ack(position, position + count - 1)

    @rule(data=st.data(), count=COUNTS)
    def ack_messages(self, data: st.DataObject, count: int) -> None:
        if self.messages:
            first = data.draw(st.sampled_from(self.messages[-8:]))
            self.ack(first, first + count - 1)

    @rule(data=st.data())
    def ack_many(self, data: st.DataObject) -> None:
        """Whether acknowledgements come together or one by one, the cursor is the same."""
        known = st.sampled_from(self.messages) if self.messages else st.nothing()
        chosen = data.draw(st.sets(st.one_of(known, st.integers(1, self.read + 3)), min_size=4))
        spans: list[tuple[int, int]] = []
        for each in sorted(chosen):
            joined = spans and spans[-1][1] == each - 1
            spans[-1:] = [(spans[-1][0], each)] if joined else [*spans[-1:], (each, each)]
        other = deepcopy(self.cursor)
        for first, last in spans:
            self.ack(first, last)
        acked = set(positions([Span(first, last) for first, last, _ in other.acked_ranges()]))
        new = positions(other.ack_all(spans))
        assert new == sorted(new)
        assert not acked.intersection(new)
        assert vars(other) == vars(self.cursor)

    def ack(self, first: int, last: int) -> None:
        may = [p for p in range(first, last + 1) if p > self.read or p in self.messages]
        new = [p for p in may if p > self.cursor.mark_delete and p not in self.acked]
        if first < last:
            self.ahead.update(p for p in new if p > self.read)
        assert positions(self.cursor.ack(first, last)) == new
        self.acked.update(may)

    @rule(first=st.integers(0, 60), count=COUNTS)
    def what_is_left_of_a_run(self, first: int, count: int) -> None:
        left = [p for p in range(first, first + count) if p in self.messages and p not in self.acked]
        span = self.cursor.next_unacked(first, first + count - 1)
        if not left:
            assert span is None
        else:
            assert span is not None
            assert positions([span]) == left[: span.last - span.first + 1]
            assert span.last + 1 not in left

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, self.read + 4))
        self.pass_over(position)
        self.cursor.expire(position)
        self.read = max(self.read, position)
        self.acked.update(range(position + 1))

    @rule(step=st.integers(-2, 5))
    def skip(self, step: int) -> None:
        position = self.read + step
        self.pass_over(position)
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
                assert bool(self.cursor.admit(position, position)) is (position not in self.acked)
                ahead = [p for p in self.acked if p > max(position, self.cursor.read_position)]
                unread = self.cursor.acked_unread(10_000)
                assert jumps or unread == len(ahead) or (unread > len(ahead) and not self.exact)
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
        unread = self.cursor.acked_unread(end)
        assert unread == len(ahead) or (unread > len(ahead) and not self.exact)

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


CursorMachine.TestCase.settings = settings(stateful_step_count=40)
TestCursor = CursorMachine.TestCase


def test_acknowledgements_far_ahead_are_bounded() -> None:
    cursor = Cursor(0)
    bound = cursor_module.ACKED_AHEAD_MAX
    assert sum(bool(cursor.ack(position, position)) for position in range(2, 4 * bound, 2)) == bound
    assert not cursor.ack(10 * bound, 10 * bound)
    assert cursor.admit(1, 1)
    assert cursor.ack(1, 1), "what was read can always be acknowledged"


def test_a_message_read_is_acknowledged_whatever_lies_ahead() -> None:
    cursor = Cursor(0)
    for position in range(10, 10 + cursor_module.ACKED_AHEAD_MAX):
        cursor.ack(position, position)
    assert cursor.admit(1, 5) == [Span(1, 5)]
    assert all(cursor.ack(position, position) for position in (5, 4, 3, 2, 1))
    assert cursor.mark_delete >= 5


def test_holes_and_what_is_acknowledged_beyond_them_are_counted() -> None:
    cursor = Cursor(0)
    cursor.admit(1, 9)
    assert (cursor.holes, cursor.acked_ahead) == (0, 0)
    cursor.ack(3, 4)
    cursor.ack(7, 7)
    assert (cursor.holes, cursor.acked_ahead) == (2, 3)
    cursor.ack(1, 2)
    assert (cursor.holes, cursor.acked_ahead) == (1, 1)
