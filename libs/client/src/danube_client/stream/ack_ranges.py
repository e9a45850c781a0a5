"""Acknowledgements of one topic that are gathered into ranges of positions. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

Ranges = list[tuple[int, int]]
"""Positions from the first to the last, both included; ascending, and never adjacent."""


class AckRanges:
    """Gathers positions. Those that are acknowledged in order cost one comparison each."""

    __slots__ = ("_first", "_last", "_others", "count")

    def __init__(self) -> None:
        self._others: list[tuple[int, int]] = []
        self._first, self._last = 1, 0
        self.count = 0
        """How many positions were added since the last `take`."""

    def add(self, position: int) -> None:
        """Add one position."""
        self.count += 1
        if position == self._last + 1 and self._first <= self._last:
            self._last = position
            return
        if self._first <= self._last:
            self._others.append((self._first, self._last))
        self._first = self._last = position

    def add_all(self, positions: Sequence[int]) -> None:
        """Add positions; those that follow one another cost one comparison together."""
        first, last = positions[0], positions[-1]
        # Positions jump between the sections of a log: what lies between two may be far too much to list.
        if last - first == len(positions) - 1 and positions == list(range(first, last + 1)):
            self.extend([(first, last)])
        else:
            for position in positions:
                self.add(position)

    def extend(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add ranges."""
        for first, last in ranges:
            self._others.append((first, last))
            self.count += last - first + 1

    def take(self) -> Ranges:
        """Return what was added, and forget it."""
        gathered = self._others
        if self._first <= self._last:
            gathered.append((self._first, self._last))
        self._others, self.count = [], 0
        self._first, self._last = 1, 0
        return merged(gathered)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the same positions in as few ranges as possible."""
    out: Ranges = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def contains(ranges: Sequence[tuple[int, int]], position: int) -> bool:
    """Whether one of the merged ranges holds the position."""
    index = bisect_right(ranges, position, key=itemgetter(0)) - 1
    return index >= 0 and position <= ranges[index][1]
