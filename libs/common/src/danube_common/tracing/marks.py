"""Marks tell which messages have a recorded trace, so that nobody has to search the messages. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from danube_common.tracing.context import TraceContext, parse_context

MARKS_MAX: Final = 32
"""Marks of one frame or one delivery; messages beyond them have no spans there."""

T = TypeVar("T")


class Mark(NamedTuple):
    """One message with a recorded trace.

    Attributes:
        place: its position, or in the log the position less that of its frame.
        context: the span that its next span continues.
    """

    place: int
    context: TraceContext


def encode_marks(marks: Iterable[Mark]) -> str:
    """Return marks as text without spaces, for a header of the bus."""
    return ",".join(f"{place:x}:{context}" for place, context in marks)


def parse_marks(text: str) -> list[Mark]:
    """Return the marks of a text, MARKS_MAX at most. What is none is left out: nothing depends on a trace."""
    found: list[Mark] = []
    for part in text.split(",", MARKS_MAX)[:MARKS_MAX]:
        place, _, rest = part.partition(":")
        context = parse_context(rest)
        if context is not None and place.isalnum():
            try:
                found.append(Mark(int(place, 16), context))
            except ValueError:
                continue
    return found


def encode_marks_by_consumer(told: Iterable[tuple[int, Iterable[Mark]]]) -> str:
    """Return the marks of deliveries to several consumers, by their ids, as text."""
    return ";".join(f"{consumer:x}={encode_marks(marks)}" for consumer, marks in told)


def parse_marks_by_consumer(text: str) -> list[tuple[int, list[Mark]]]:
    """Return what `encode_marks_by_consumer` has encoded; what is none of it is left out."""
    found: list[tuple[int, list[Mark]]] = []
    for part in text.split(";"):
        consumer, _, marks = part.partition("=")
        try:
            found.append((int(consumer, 16), parse_marks(marks)))
        except ValueError:
            continue
    return found


class Marked(Generic[T]):
    """What is known of marked messages by position; beyond ``size_max`` the first noted are forgotten."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._known: dict[int, T] = {}
        self._positions: list[int] = []
        """Those of ``_known``, ascending."""
        self._noted: deque[int] = deque()
        """In the order of noting; also what was taken since, until its turn comes."""

    def __len__(self) -> int:
        return len(self._known)

    def note(self, position: int, what: T) -> None:
        """Note a message; again: what is known of it is replaced."""
        if position not in self._known:
            insort(self._positions, position)
            self._noted.append(position)
            if len(self._noted) > self._size_max:
                self.take(self._noted.popleft())
        self._known[position] = what

    def between(self, first: int, last: int) -> list[tuple[int, T]]:
        """Return what is known of the messages from ``first`` to ``last``, ascending."""
        positions = self._positions
        begin = bisect_left(positions, first)
        if begin == len(positions) or positions[begin] > last:  # as nearly always: this is asked of each run
            return []
        return [(each, self._known[each]) for each in positions[begin : bisect_right(positions, last)]]

    def take(self, position: int) -> T | None:
        """Forget a message, and return what was known of it."""
        what = self._known.pop(position, None)
        if what is not None:
            del self._positions[bisect_left(self._positions, position)]
        return what
