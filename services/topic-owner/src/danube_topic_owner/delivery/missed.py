"""Counts the messages that the live feed passed while a subscription was behind it. Pure."""

from __future__ import annotations

from typing import NamedTuple

MARKS_MAX = 64


class Mark(NamedTuple):
    """``messages`` of the topic in the frames ``first`` to ``last``."""

    first: int
    last: int
    messages: int


class Missed:
    """The unread messages that this owner has seen pass, by log sequence.

    It has at most MARKS_MAX marks, one a frame; the newest one stands for all frames beyond that.
    """

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def add(self, sequence: int, count: int, next_sequence: int) -> None:
        """Note that ``count`` messages passed in a frame; those before ``next_sequence`` are read."""
        while self._marks and self._marks[0].first < next_sequence:
            del self._marks[0]
        newest = self._marks[-1] if self._marks else None
        if newest is not None and (newest.last == sequence or len(self._marks) >= MARKS_MAX):
            self._marks[-1] = Mark(newest.first, sequence, newest.messages + count)
        else:
            self._marks.append(Mark(sequence, sequence, count))

    def between(self, first: int, last: int) -> int:
        """Return a lower bound of the messages that passed in the frames ``first`` to ``last``."""
        return sum(mark.messages for mark in self._marks if first <= mark.first and mark.last <= last)

    def clear(self) -> None:
        """Forget everything: all is read."""
        self._marks.clear()
