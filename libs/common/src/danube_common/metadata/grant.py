"""What a user of the metadata store may do with a range of keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A range of keys that may be read; with ``writes`` written, too. An empty end: the one key."""

    start: bytes
    end: bytes
    writes: bool

    @classmethod
    def of(cls, prefix: str, *, writes: bool = False) -> Self:
        """Return the range of the keys that begin with a prefix, which ends in a slash."""
        start = prefix.encode()
        return cls(start, start[:-1] + b"0", writes)  # 0 follows the slash

    def without(self, gaps: Iterable[Grant]) -> list[Grant]:
        """Return what is left of it without ranges that do not overlap each other."""
        left, start = [], self.start
        for gap in sorted(gaps):
            if not (start <= gap.start and gap.end <= self.end):
                continue
            if start < gap.start:
                left.append(Grant(start, gap.start, self.writes))
            start = gap.end
        if start < self.end:
            left.append(Grant(start, self.end, self.writes))
        return left
