"""How often the delivery of messages has failed, by position, as it was journaled. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class FailureCounts:
    """Counts of the messages that failed and are not acknowledged; there are few of them."""

    _positions: list[int] = field(default_factory=list)
    """Ascending."""
    _counts: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._positions)

    def items(self) -> list[tuple[int, int]]:
        """Return (position, failures) in ascending order."""
        return [(position, self._counts[position]) for position in self._positions]

    def set(self, counts: Iterable[tuple[int, int]]) -> None:
        """Note (position, failures); a position that is known gets the new count."""
        for position, count in counts:
            if position not in self._counts:
                self._positions.insert(bisect_left(self._positions, position), position)
            self._counts[position] = count

    def drop(self, first: int, last: int) -> None:
        """Forget the positions ``first`` to ``last``."""
        low, high = bisect_left(self._positions, first), bisect_right(self._positions, last)
        for position in self._positions[low:high]:
            del self._counts[position]
        del self._positions[low:high]

    def clear(self) -> None:
        """Forget all."""
        self._positions.clear()
        self._counts.clear()
