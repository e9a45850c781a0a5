"""A subscription's cursor: mark-delete and the acknowledged ranges beyond it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

ACKED_AHEAD_MAX = 100_000
"""Acknowledged ranges kept beyond the read position; more are ignored, and their messages redelivered."""
SWEEP_SPANS_MIN: Final = 4
"""Fewer spans are acknowledged one by one."""
SWEEP_PARTS_MAX: Final = 8
"""One sweep acknowledges all spans if it passes at most so many parts of the cursor for each of them."""


class Range(NamedTuple):
    """Positions ``first`` to ``last``, of which every one that is a message of the topic is acknowledged.

    ``messages`` is the number of these messages.
    """

    first: int
    last: int
    messages: int


_first = itemgetter(0)
_last = itemgetter(1)


def merge_range(ranges: list[Range], new: Range) -> None:
    """Merge ``new`` into ranges that are sorted and apart; it replaces those that it covers."""
    low = bisect_left(ranges, new.first, key=_last)
    high = bisect_right(ranges, new.last, key=_first)
    first, last, messages = new
    for each in ranges[low:high]:
        if each.first < new.first or each.last > new.last:
            messages += each.messages
        first, last = min(first, each.first), max(last, each.last)
    ranges[low:high] = [Range(first, last, messages)]


class Span(NamedTuple):
    """The positions ``first`` to ``last``, each of which is a message."""

    first: int
    last: int


def split(positions: Iterable[Span], spans: Iterable[tuple[int, int]]) -> tuple[list[Span], list[Span]]:
    """Return what of positions is outside of spans, and what is within; all ascend."""
    outside: list[Span] = []
    within: list[Span] = []
    rest = iter(spans)
    span = next(rest, None)
    for each in positions:
        first, last = each
        while span is not None and span[1] < first:
            span = next(rest, None)
        while span is not None and span[0] <= last:
            begin, end = span
            if first < begin:
                outside.append(Span(first, begin - 1))
                first = begin
            if end >= last:
                within.append(Span(first, last))
                first = last + 1
                break
            if first <= end:
                within.append(Span(first, end))
                first = end + 1
            span = next(rest, None)
        if first <= last:
            outside.append(each if first == each[0] else Span(first, last))
    return outside, within


class Cursor:
    """Runs of positions are admitted in ascending order as the log is read, and acknowledged in any order.

    The positions of a run, and those that are acknowledged at once, are adjacent and of one section.

    Every message of the topic at or below ``mark_delete`` is acknowledged or expired. ``mark_delete`` never
    goes back. Acknowledged messages beyond it are kept as ranges between the unacknowledged ones: a range
    spans as many frames, and positions of other topics, as lie between two unacknowledged messages.
    """

    def __init__(self, mark_delete: int, acked: Iterable[Range] = ()) -> None:
        self.mark_delete = mark_delete
        self.read_position = mark_delete
        """The last position admitted or skipped."""
        self.outstanding = 0
        """Messages read and not acknowledged."""
        self._unacked: list[Span] = []
        """Positions that were read and are not acknowledged, ascending and apart."""
        self._ranges = list(acked)
        """Acknowledged ranges beyond mark-delete, ascending and apart. Each one whose messages were read
        begins right behind an unacknowledged position."""
        self._changed: set[int] = set()
        """First positions of the ranges that changed."""
        self._rest = 0
        """Messages beyond the read position of the range that contains it."""

    @property
    def holes(self) -> int:
        """How many stretches of unacknowledged messages lie before acknowledged ones."""
        return len(self._ranges)

    @property
    def acked_ahead(self) -> int:
        """Messages beyond mark-delete that are acknowledged."""
        return sum(each.messages for each in self._ranges)

    def admit(self, first: int, last: int) -> list[Span]:
        """Note that a run was read; return the parts of it that must be delivered.

        What was read before or is acknowledged must not be delivered (again).
        """
        first = max(first, self.read_position + 1)
        if first > last:
            return []
        if not self._ranges:
            self.read_position = last
            return [self._append(first, last)]
        open_: list[Span] = []
        while first <= last:
            at = bisect_right(self._ranges, first, key=_first)
            acked = at > 0 and self._ranges[at - 1].last >= first
            if acked:
                end = min(self._ranges[at - 1].last, last)
            else:
                end = min(self._ranges[at].first - 1, last) if at < len(self._ranges) else last
            self._read_through(end, messages=end - first + 1)
            self._join(len(self._unacked))
            if not acked:
                open_.append(self._append(first, end))
            self._settle()
            first = max(end, self.read_position) + 1
        return open_

    def _append(self, first: int, last: int) -> Span:
        self.outstanding += last - first + 1
        span = Span(first, last)
        if self._unacked and self._unacked[-1].last == first - 1:
            self._unacked[-1] = Span(self._unacked[-1].first, last)
        else:
            self._unacked.append(span)
        return span

    def ack(self, first: int, last: int) -> list[Span]:
        """Acknowledge a run; return the parts of it for which that is new.

        Positions that were read and are not messages, or are too far ahead, are passed over.
        """
        first = max(first, self.mark_delete + 1)
        if first > last:
            return []
        if first > self.read_position:
            return self._ack_ahead(first, last)
        if last > self.read_position:
            return [*self.ack(first, self.read_position), *self._ack_ahead(self.read_position + 1, last)]
        unacked = self._unacked
        low = bisect_left(unacked, first, key=_last)
        high = bisect_right(unacked, last, key=_first)
        if low == high:
            return []
        touched = unacked[low:high]
        left, right = touched[0].first, touched[-1].last
        rest: list[Span] = []
        if left < first:
            rest.append(Span(left, first - 1))
            touched[0] = Span(first, touched[0].last)
        at = low + len(rest)
        if right > last:
            rest.append(Span(last + 1, right))
            touched[-1] = Span(touched[-1].first, last)
        unacked[low:high] = rest
        count = sum([end - begin for begin, end in touched]) + len(touched)
        self.outstanding -= count
        if at or self._ranges:
            self._join(at, acked=count, last=touched[-1].last)
        elif unacked:
            self.mark_delete = touched[-1].last
        self._settle()
        return touched

    def ack_all(self, spans: Sequence[tuple[int, int]]) -> list[Span]:
        """Acknowledge runs in ascending order, as `ack` does one after the other."""
        unacked, ranges = self._unacked, self._ranges
        if len(spans) >= SWEEP_SPANS_MIN and (last := max(map(_last, spans))) <= self.read_position:
            low = bisect_left(unacked, spans[0][0], key=_last)
            high = bisect_right(unacked, last, key=_first)
            after = unacked[low - 1].last if low else self.mark_delete
            before = unacked[high].first if high < len(unacked) else self.read_position + 1
            begin = bisect_right(ranges, after, key=_last)
            end = bisect_left(ranges, before, key=_first)
            if high - low + end - begin <= len(spans) * SWEEP_PARTS_MAX:
                left, touched = split(unacked[low:high], spans)
                if not touched:
                    return touched
                unacked[low:high] = left
                self.outstanding -= sum([last - first + 1 for first, last in touched])
                bounds = zip([after, *map(_last, left)], [*map(_first, left), before], strict=True)
                ranges[begin:end] = self._join_all(bounds, touched, ranges[begin:end])
                self._settle()
                return touched
        return [part for first, last in spans for part in self.ack(first, last)]

    def _join_all(
        self, bounds: Iterable[tuple[int, int]], acked: Sequence[Span], ranges: Sequence[Range]
    ) -> list[Range]:
        """Return one range for what is acknowledged within each of ``bounds``, as `_join` makes it.

        ``bounds`` are neighbours among the unacknowledged positions; ``acked`` is in no range yet.
        """
        found: list[Range] = []
        spans, known = iter(acked), iter(ranges)
        span, each = next(spans, None), next(known, None)
        for after, before in bounds:
            messages = last = 0
            while span is not None and span[1] < before:
                last = span[1]
                messages += last - span[0] + 1
                span = next(spans, None)
            new = messages
            while each is not None and each[0] < before:
                if new:
                    self._changed.discard(each[0])
                    messages += each[2]
                    last = max(last, each[1])
                else:
                    found.append(each)
                each = next(known, None)
            if new:
                found.append(Range(after + 1, last, messages))
                self._changed.add(after + 1)
        return found

    def skip_to(self, position: int) -> bool:
        """Pass the positions up to ``position`` that were not admitted: none is a retained message.

        Moves mark-delete too when nothing is outstanding, and returns whether it did.
        """
        before = self.mark_delete
        if position > self.read_position:
            self._read_through(position)
            self._join(len(self._unacked))
            self._settle()
        return self.mark_delete > before

    def skip_acked(self, position: int) -> int:
        """Pass the acknowledged range that goes on behind ``position``, up to which everything was read.

        Returns the position behind which to read on.
        """
        at = bisect_right(self._ranges, position + 1, key=_first)
        if at and self._ranges[at - 1].last > position:
            self.skip_to(self._ranges[at - 1].last)
        return max(position, self.read_position)

    def expire(self, position: int) -> None:
        """Count every position up to ``position`` as acknowledged, read or not: none is retained."""
        passed = bisect_right(self._unacked, position, key=_last)
        self.outstanding -= self.unacked_through(position)
        del self._unacked[:passed]
        if self._unacked and self._unacked[0].first <= position:
            self._unacked[0] = Span(position + 1, self._unacked[0].last)
        if position > self.read_position:
            self._read_through(position)
        self._drop(bisect_right(self._ranges, position, key=_last))
        self.mark_delete = max(self.mark_delete, position)
        self._settle()

    def unacked_through(self, position: int) -> int:
        """Return the number of positions up to ``position`` that were read and are not acknowledged."""
        passed = bisect_right(self._unacked, position, key=_first)
        return sum([min(last, position) - first + 1 for first, last in self._unacked[:passed]])

    def acked_unread(self, position: int) -> int:
        """Return the number of messages up to ``position`` that are acknowledged and were not read yet.

        It is an upper bound if an acknowledged range contains ``position``.
        """
        low = bisect_right(self._ranges, self.read_position, key=_first)
        high = bisect_right(self._ranges, position, key=_first)
        rest = self._rest if position > self.read_position else 0
        return rest + sum(each.messages for each in self._ranges[low:high])

    def is_acked(self, position: int) -> bool:
        """Return whether a position that is a message is acknowledged."""
        if position <= self.mark_delete:
            return True
        if position > self.read_position:
            at = bisect_right(self._ranges, position, key=_first)
            return at > 0 and self._ranges[at - 1].last >= position
        return self.next_unacked(position, position) is None

    def next_unacked(self, first: int, last: int) -> Span | None:
        """Return the first unacknowledged part of a run that was read; None if nothing is left of it."""
        at = bisect_left(self._unacked, first, key=_last)
        if at == len(self._unacked) or self._unacked[at].first > last:
            return None
        return Span(max(self._unacked[at].first, first), min(self._unacked[at].last, last))

    @property
    def first_unacked(self) -> int | None:
        """The lowest position that was read and is not acknowledged; None if there is none."""
        return self._unacked[0].first if self._unacked else None

    def acked_ranges(self) -> list[Range]:
        """Return the acknowledged ranges beyond mark-delete, in ascending order."""
        return list(self._ranges)

    def take_changes(self) -> list[Range]:
        """Return the ranges of `acked_ranges` that are new or have grown since the last call.

        A range that has grown contains those that it was made of: `merge_range` replaces them.
        """
        changed, self._changed = self._changed, set()
        found: list[Range] = []
        for first in sorted(changed):
            at = bisect_left(self._ranges, first, key=_first)
            if at < len(self._ranges) and self._ranges[at].first == first:
                found.append(self._ranges[at])
        return found

    def _read_through(self, position: int, *, messages: int = 0) -> bool:
        """Move the read position forward by ``messages``; return whether a range contains it then."""
        at = bisect_right(self._ranges, position, key=_first)
        before, self.read_position = self.read_position, position
        if not at or (found := self._ranges[at - 1]).last < position:
            self._rest = 0
            return False
        rest = found.messages if found.first > before else self._rest
        self._rest = max(rest - messages, 0) if position < found.last else 0
        return True

    def _ack_ahead(self, first: int, last: int) -> list[Span]:
        new: list[Span] = []
        while first <= last and len(self._ranges) < len(self._unacked) + ACKED_AHEAD_MAX:
            at = bisect_right(self._ranges, first, key=_first)
            if at and self._ranges[at - 1].last >= first:
                first = self._ranges[at - 1].last + 1
                continue
            end = min(self._ranges[at].first - 1, last) if at < len(self._ranges) else last
            self._ranges.insert(at, Range(first, end, end - first + 1))
            self._changed.add(first)
            new.append(Span(first, end))
            first = end + 1
        return new

    def _join(self, at: int, *, acked: int = 0, last: int = 0) -> None:
        """Make one range of all that were read between two neighbours among the unacknowledged positions.

        ``at`` is the index of the second one, or their number for what is behind all of them; ``acked``
        messages between them, up to position ``last``, are in no range yet.
        """
        after = self._unacked[at - 1].last if at else self.mark_delete
        before = self._unacked[at].first if at < len(self._unacked) else self.read_position + 1
        low = bisect_right(self._ranges, after, key=_last)
        high = bisect_left(self._ranges, before, key=_first)
        for each in self._ranges[low:high]:
            self._changed.discard(each.first)
            acked += each.messages
            last = max(last, each.last)
        if acked:
            self._ranges[low:high] = [Range(after + 1, last, acked)]
            self._changed.add(after + 1)

    def _settle(self) -> None:
        """Move mark-delete to the last position before which nothing is unacknowledged."""
        if self._unacked:
            passed = bisect_left(self._ranges, self._unacked[0].first, key=_first)
            if passed:
                self.mark_delete = max(self.mark_delete, self._ranges[passed - 1].last)
                self._drop(passed)
            return
        while self._ranges and self._ranges[0].first <= self.read_position + 1:
            self.read_position = max(self.read_position, self._ranges[0].last)
            self._rest = 0
            self._drop(1)
        self.mark_delete = max(self.mark_delete, self.read_position)

    def _drop(self, count: int) -> None:
        for each in self._ranges[:count]:
            self._changed.discard(each.first)
        del self._ranges[:count]
