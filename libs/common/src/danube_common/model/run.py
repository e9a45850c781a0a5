"""Runs: adjacent messages of one section, from the log to the consumer's gateway."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from danube_common.model.position import BEFORE_ALL

COPY_BELOW = 4
"""`Run.owned` copies a run that is less than 1/COPY_BELOW of the bytes or the ends it keeps in memory."""


@dataclass(slots=True)
class Run:
    """A slice of a section's messages; never changed, and made without a copy of the messages.

    Attributes:
        first: position of the first message, the others follow by one; BEFORE_ALL for messages of
            non-reliable topics, which have no positions.
        ends: where messages end in ``data``, those outside of this run included.
        low: index in ``ends`` of the first message.
        high: index behind the last message.
        data: the messages' bytes, those outside of this run included.
        offset: of the first message: how many messages of the topic are before it. 0 for messages of
            non-reliable topics.
    """

    first: int
    ends: tuple[int, ...]
    low: int
    high: int
    data: bytes
    offset: int = 0

    @classmethod
    def of(cls, first: int, messages: Sequence[bytes], offset: int = 0) -> Run:
        """Return a run of messages that lie apart."""
        end = 0
        ends = tuple([end := end + len(message) for message in messages])
        return cls(first, ends, 0, len(ends), b"".join(messages), offset)

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def last(self) -> int:
        """The position of the last message."""
        return self.first + self.high - self.low - 1 if self.first else BEFORE_ALL

    @property
    def start(self) -> int:
        """Where the first message begins in ``data``."""
        return self.ends[self.low - 1] if self.low else 0

    @property
    def size(self) -> int:
        """The messages' bytes."""
        if not self.high:
            return 0
        return self.ends[self.high - 1] - (self.ends[self.low - 1] if self.low else 0)

    def offset_at(self, position: int) -> int:
        """Return the offset of the message at a position of this run."""
        return self.offset + position - self.first

    def position_at(self, offset: int) -> int:
        """Return the position of the message that has the byte at an offset of ``data``."""
        return (
            self.first + bisect_right(self.ends, offset, self.low, self.high) - self.low if self.first else 0
        )

    def messages(self) -> list[bytes]:
        """Return the messages."""
        data, start = self.data, self.start
        found: list[bytes] = []
        for end in self.ends[self.low : self.high]:
            found.append(data[start:end])
            start = end
        return found

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Yield (position, message)."""
        step = 1 if self.first else 0
        for index, message in enumerate(self.messages()):
            yield self.first + index * step, message

    def body(self) -> bytes:
        """Return the messages back to back."""
        start, end = self.start, self.ends[self.high - 1] if self.high else 0
        return self.data if not start and end == len(self.data) else self.data[start:end]

    def head(self, count: int) -> Run:
        """Return the first ``count`` messages."""
        if count >= self.high - self.low:
            return self
        return Run(self.first, self.ends, self.low, self.low + count, self.data, self.offset)

    def tail(self, count: int) -> Run:
        """Return what follows the first ``count`` messages."""
        step = count if self.first else 0
        return Run(self.first + step, self.ends, self.low + count, self.high, self.data, self.offset + step)

    def part(self, first: int, last: int) -> Run:
        """Return the messages at the positions ``first`` to ``last``, which lie in this run."""
        if first == self.first and last == self.last:
            return self
        skipped = first - self.first
        low = self.low + skipped
        return Run(first, self.ends, low, low + last - first + 1, self.data, self.offset + skipped)

    def count_within(self, size: int) -> int:
        """Return how many messages fit ``size`` bytes."""
        return bisect_right(self.ends, self.start + size, self.low, self.high) - self.low

    def count_until(self, size: int) -> int:
        """Return how many messages it takes to reach ``size`` bytes; all of them if they have fewer."""
        if size <= 0:
            return 0
        return min(bisect_left(self.ends, self.start + size, self.low, self.high) + 1, self.high) - self.low

    def owned(self) -> Run:
        """Return the run, copied if it would keep much more in memory than its own messages."""
        count = self.high - self.low
        if count * COPY_BELOW >= len(self.ends) and self.size * COPY_BELOW >= len(self.data):
            return self
        start = self.start
        ends = tuple([end - start for end in self.ends[self.low : self.high]])
        return Run(self.first, ends, 0, count, self.body(), self.offset)


def back_to_back(runs: Iterable[Run]) -> list[Run]:
    """Return the messages of runs in their order, in as few runs as they have stretches of bytes.

    Of these only the bytes and the first positions count.
    """
    found: list[Run] = []
    begin: Run | None = None
    end = begin
    for run in runs:
        if begin is None or end is None:
            begin = run
        # Equal bytes of few characters may be one object.
        elif run.low != end.high or run.data is not end.data or run.ends is not end.ends:
            found.append(_stretch(begin, end))
            begin = run
        end = run
    if begin is not None and end is not None:
        found.append(_stretch(begin, end))
    return found


def _stretch(begin: Run, end: Run) -> Run:
    if begin is end:
        return begin
    return Run(begin.first, begin.ends, begin.low, end.high, begin.data, begin.offset)
