"""The last stored sequence of each idempotent producer of a bundle. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, Self

from danube_common.errors import CorruptData

PRODUCERS_MAX: Final = 10_000
"""Producers that are remembered. Beyond it the one that stored nothing for the longest is forgotten. When it
comes back, its sequences begin anew, and only the log's duplicate window knows its last batches."""

_LAST = struct.Struct("<QQ")


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

    @property
    def packed(self) -> bytes:
        """The producers in their stored form: 16 bytes each."""
        return b"".join(_LAST.pack(*item) for item in self._last.items())

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return what was `packed`. Raises CorruptData."""
        if len(data) % _LAST.size:
            raise CorruptData(f"{len(data)} bytes are no table of producers' sequences")
        self = cls()
        self.merge(_LAST.iter_unpack(data))
        return self

    def merge(self, lasts: Iterable[tuple[int, int]]) -> None:
        """Note many (key, last sequence), in the order in which they were stored."""
        for key, last in lasts:
            self.note(key, last)
