"""Which messages were lost, came twice or came late. Pure, and bounded whatever arrives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

GAPS_MAX: Final = 10_000
"""Ranges of missing numbers that are remembered for a producer; older ones are counted as lost for good."""


@dataclass(slots=True)
class Counts:
    """What was found in one subscription.

    Attributes:
        received: messages, repeated ones included.
        lost: numbers that did not come.
        duplicated: messages that had come before.
        reordered: messages that came after a higher number of the same producer.
    """

    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0

    def add(self, other: Counts) -> None:
        """Take another subscription's counts in."""
        self.received += other.received
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.reordered += other.reordered


@dataclass(slots=True)
class ProducerLine:
    """The numbers of one producer as they arrive.

    Attributes:
        next: one more than the highest number that came.
        gaps: missing ranges, first number to the one after the last, in order.
        given_up: numbers in ranges that were forgotten.
    """

    next: int = 0
    gaps: dict[int, int] = field(default_factory=dict)
    given_up: int = 0

    def take(self, number: int) -> str:
        """Return whether a number is ``"new"``, ``"late"`` or ``"again"``."""
        if number >= self.next:
            if number > self.next:
                self._open(self.next, number)
            self.next = number + 1
            return "new"
        for first, after in self.gaps.items():
            if first <= number < after:
                self._fill(first, after, number)
                return "late"
        return "again"

    def missing(self, sent: int | None = None) -> int:
        """Return how many numbers have not come; ``sent`` is how many there are, if that is known."""
        behind = max(0, sent - self.next) if sent is not None else 0
        return self.given_up + sum(after - first for first, after in self.gaps.items()) + behind

    def _open(self, first: int, after: int) -> None:
        if len(self.gaps) >= GAPS_MAX:
            oldest = next(iter(self.gaps))
            self.given_up += self.gaps.pop(oldest) - oldest
        self.gaps[first] = after

    def _fill(self, first: int, after: int, number: int) -> None:
        del self.gaps[first]
        if first < number:
            self.gaps[first] = number
        if number + 1 < after:
            self.gaps[number + 1] = after


class Integrity:
    """The messages of one subscription, of all its consumers together.

    Args:
        first: numbers below it, by producer, are not expected: the subscription began later.
    """

    def __init__(self, first: Mapping[int, int] | None = None) -> None:
        self._first = dict(first or {})
        self._lines: dict[int, ProducerLine] = {}
        self._counts = Counts()

    @property
    def received(self) -> int:
        """How many messages came, repeated ones included."""
        return self._counts.received

    def take(self, producer: int, number: int) -> bool:
        """Note a message; return whether it came for the first time."""
        self._counts.received += 1
        line = self._lines.get(producer)
        if line is None:
            line = self._lines[producer] = ProducerLine(next=self._first.get(producer, 0))
        if number == line.next:
            line.next += 1
            return True
        how = line.take(number)
        self._counts.duplicated += how == "again"
        self._counts.reordered += how == "late"
        return how != "again"

    def begin_at(self, producer: int, number: int) -> None:
        """Expect a producer's numbers from this one on, unless one of its messages has come."""
        if producer not in self._lines:
            self._first[producer] = number

    def knows(self, producer: int) -> bool:
        """Return whether a message of the producer has come."""
        return producer in self._lines

    def excuse(self, producer: int, numbers: Iterable[int]) -> None:
        """Expect these numbers no longer: their publish failed, so they may come or not."""
        line = self._lines.setdefault(producer, ProducerLine(next=self._first.get(producer, 0)))
        for number in sorted(numbers):
            line.take(number)

    def complete(self, sent: Mapping[int, int]) -> bool:
        """Return whether all numbers of all producers have come."""
        return not self._lost(sent)

    def counts(self, sent: Mapping[int, int] | None = None) -> Counts:
        """Return what was found; ``sent`` tells how many numbers each producer used, if that is known."""
        counts = self._counts
        return Counts(counts.received, self._lost(sent or {}), counts.duplicated, counts.reordered)

    def _lost(self, sent: Mapping[int, int]) -> int:
        heard = sum(line.missing(sent.get(number)) for number, line in self._lines.items())
        return heard + sum(
            max(0, count - self._first.get(number, 0))
            for number, count in sent.items()
            if number not in self._lines
        )
