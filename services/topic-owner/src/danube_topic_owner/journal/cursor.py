"""A subscription's cursor: mark-delete and the acknowledged positions beyond it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import takewhile

ACKED_AHEAD_MAX = 100_000
"""Acknowledged positions kept beyond the read ones; more are ignored, and their messages redelivered."""

Range = tuple[int, int]
"""First and last of consecutive positions."""


class Cursor:
    """Positions are admitted in ascending order as the log is read, and acknowledged in any order.

    Every message of the topic at or below ``mark_delete`` is acknowledged or expired. ``mark_delete`` never
    goes back.
    """

    def __init__(self, mark_delete: int, acked: Iterable[Range] = ()) -> None:
        self.mark_delete = mark_delete
        self._acked = {position for first, last in acked for position in range(first, last + 1)}
        self._window: deque[int] = deque()
        self.read_position = mark_delete
        """The last position admitted or skipped."""

    def admit(self, position: int) -> bool:
        """Note that a position was read; return False if its message must not be delivered (again)."""
        if position <= self.read_position:
            return False
        self.read_position = position
        self._window.append(position)
        if position in self._acked:
            self._trim()
            return False
        return True

    def ack(self, position: int) -> bool:
        """Acknowledge a position; return False if nothing changed (it is old, repeated or too far ahead)."""
        if position <= self.mark_delete or position in self._acked:
            return False
        if len(self._acked) >= len(self._window) + ACKED_AHEAD_MAX:
            return False
        self._acked.add(position)
        if self._window and position == self._window[0]:
            self._trim()
        return True

    def skip_to(self, position: int) -> bool:
        """Pass the positions up to ``position`` that were not admitted: none is a retained message.

        Moves mark-delete too when nothing is outstanding, and returns whether it did.
        """
        self.read_position = max(self.read_position, position)
        if self._window or position <= self.mark_delete:
            return False
        self._move(position)
        return True

    def expire(self, position: int) -> None:
        """Count every position up to ``position`` as acknowledged, read or not: none is retained."""
        window = self._window
        while window and window[0] <= position:
            window.popleft()
        self._acked = {each for each in self._acked if each > position}
        self.read_position = max(self.read_position, position)
        if window:
            self.mark_delete = max(self.mark_delete, position)
            self._trim()
        elif self.read_position > self.mark_delete:
            self._move(self.read_position)

    def unacked_through(self, position: int) -> int:
        """Return the number of positions up to ``position`` that were read and are not acknowledged."""
        read = takewhile(lambda each: each <= position, self._window)
        return sum(each not in self._acked for each in read)

    def acked_unread(self, position: int) -> int:
        """Return the number of positions up to ``position`` that are acknowledged and were not read yet."""
        return sum(self.read_position < each <= position for each in self._acked)

    def is_acked(self, position: int) -> bool:
        """Return whether a position is acknowledged."""
        return position <= self.mark_delete or position in self._acked

    @property
    def outstanding(self) -> int:
        """Messages read and not yet acknowledged, those acknowledged out of order included."""
        return len(self._window)

    def acked_ranges(self) -> list[Range]:
        """Return the acknowledged positions beyond mark-delete, in ascending order."""
        ranges: list[Range] = []
        for position in sorted(p for p in self._acked if p > self.mark_delete):
            if ranges and position == ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], position)
            else:
                ranges.append((position, position))
        return ranges

    def _trim(self) -> None:
        window, acked = self._window, self._acked
        position = self.mark_delete
        while window and window[0] in acked:
            position = window.popleft()
            acked.discard(position)
        if position > self.mark_delete:
            self._move(position if window else self.read_position)

    def _move(self, position: int) -> None:
        self.mark_delete = position
        if self._acked and not self._window:
            self._acked = {p for p in self._acked if p > position}
