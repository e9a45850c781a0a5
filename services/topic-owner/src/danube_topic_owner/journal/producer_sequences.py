"""The last stored sequence of each idempotent producer of a bundle. Pure."""

from __future__ import annotations

from typing import Final

PRODUCERS_MAX: Final = 10_000
"""Producers that are remembered. Beyond it the one that stored nothing for the longest is forgotten. When it
comes back, its sequences begin anew, and only the log's duplicate window knows its last batches."""


class ProducerSequences:
    """The fold of the frames of idempotent producers.

    Attributes:
        through: every frame up to this sequence of the log is in it.
    """

    def __init__(self) -> None:
        self.through = 0
        self._last: dict[int, int] = {}
        """By sequence key, the one that stored last at the end."""

    def note(self, key: int, last: int) -> None:
        """Note that a producer's messages up to ``last`` are stored."""
        known = self._last.pop(key, 0)
        if not known and len(self._last) >= PRODUCERS_MAX:
            del self._last[next(iter(self._last))]
        self._last[key] = max(known, last)

    def last(self, key: int) -> int:
        """Return the sequence of a producer's last stored message; 0 without one."""
        return self._last.get(key, 0)

    def items(self) -> list[tuple[int, int]]:
        """Return (key, last sequence), the one that stored last at the end."""
        return list(self._last.items())
