"""A subscription's cursor: mark-delete and the acknowledged ranges beyond it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

ACKED_AHEAD_MAX = 100_000
"""Acknowledged ranges kept beyond the read position; more are ignored, and their messages redelivered."""


class Range(NamedTuple):
    """Positions ``first`` to ``last``, of which every one that is a message of the topic is acknowledged.

    ``messages`` is the number of these messages.
    """

    first: int
    last: int
    messages: int


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


class Cursor:
    """Positions are admitted in ascending order as the log is read, and acknowledged in any order.

    Every message of the topic at or below ``mark_delete`` is acknowledged or expired. ``mark_delete`` never
    goes back. Acknowledged messages beyond it are kept as ranges between the unacknowledged ones: a range
    spans as many frames, and positions of other topics, as lie between two unacknowledged messages.
    """

    def __init__(self, mark_delete: int, acked: Iterable[Range] = ()) -> None:
        self.mark_delete = mark_delete
        self.read_position = mark_delete
        """The last position admitted or skipped."""
        self._unacked: list[int] = []
        """Positions that were read and are not acknowledged, ascending."""
        self._ranges = list(acked)
        """Acknowledged ranges beyond mark-delete, ascending and apart. Each one whose messages were read
        begins right behind an unacknowledged position."""
        self._changed: set[int] = set()
        """First positions of the ranges that changed."""
        self._rest = 0
        """Messages beyond the read position of the range that contains it."""

    def admit(self, position: int) -> bool:
        """Note that a position was read; return False if its message must not be delivered (again)."""
        if position <= self.read_position:
            return False
        if not self._ranges:
            self.read_position = position
            self._unacked.append(position)
            return True
        acked = self._read_through(position, messages=1)
        self._join(len(self._unacked))
        if not acked:
            self._unacked.append(position)
        self._settle()
        return not acked

    def ack(self, position: int) -> bool:
        """Acknowledge a position; return False if nothing changed.

        It changes nothing if the position is old, repeated, not a message, or too far ahead.
        """
        if position <= self.mark_delete:
            return False
        if position > self.read_position:
            return self._ack_ahead(position)
        at = bisect_left(self._unacked, position)
        if at == len(self._unacked) or self._unacked[at] != position:
            return False
        del self._unacked[at]
        if at or self._ranges:
            merge_range(self._ranges, Range(position, position, 1))
            self._join(at)
        elif self._unacked:
            self.mark_delete = position
        self._settle()
        return True

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
        del self._unacked[: bisect_right(self._unacked, position)]
        if position > self.read_position:
            self._read_through(position)
        self._drop(bisect_right(self._ranges, position, key=_last))
        self.mark_delete = max(self.mark_delete, position)
        self._settle()

    def unacked_through(self, position: int) -> int:
        """Return the number of positions up to ``position`` that were read and are not acknowledged."""
        return bisect_right(self._unacked, position)

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
        at = bisect_left(self._unacked, position)
        return at == len(self._unacked) or self._unacked[at] != position

    @property
    def outstanding(self) -> int:
        """Messages read and not acknowledged."""
        return len(self._unacked)

    @property
    def first_unacked(self) -> int | None:
        """The lowest position that was read and is not acknowledged; None if there is none."""
        return self._unacked[0] if self._unacked else None

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

    def _ack_ahead(self, position: int) -> bool:
        at = bisect_right(self._ranges, position, key=_first)
        if at and self._ranges[at - 1].last >= position:
            return False
        if len(self._ranges) >= len(self._unacked) + ACKED_AHEAD_MAX:
            return False
        self._ranges.insert(at, Range(position, position, 1))
        self._changed.add(position)
        return True

    def _join(self, at: int) -> None:
        """Make one range of all that were read between two neighbours among the unacknowledged positions.

        ``at`` is the index of the second one, or their number for what is behind all of them.
        """
        after = self._unacked[at - 1] if at else self.mark_delete
        before = self._unacked[at] if at < len(self._unacked) else self.read_position + 1
        low = bisect_right(self._ranges, after, key=_last)
        high = bisect_left(self._ranges, before, key=_first)
        joined = self._ranges[low:high]
        if joined:
            for each in joined:
                self._changed.discard(each.first)
            self._ranges[low:high] = [
                Range(after + 1, joined[-1].last, sum(each.messages for each in joined))
            ]
            self._changed.add(after + 1)

    def _settle(self) -> None:
        """Move mark-delete to the last position before which nothing is unacknowledged."""
        if self._unacked:
            passed = bisect_left(self._ranges, self._unacked[0], key=_first)
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


def _first(each: Range) -> int:
    return each.first


def _last(each: Range) -> int:
    return each.last
