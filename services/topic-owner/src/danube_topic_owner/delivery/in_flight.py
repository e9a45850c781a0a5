"""The runs of a subscription that were delivered and are not acknowledged. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from danube_common.model.run import Run
from danube_topic_owner.delivery.consumer import Consumer


@dataclass(slots=True, eq=False)
class Delivered:
    """A run that a consumer has and of which no message is acknowledged.

    ``number`` is the number of its delivery in the present session, or 0 if an earlier session delivered it.
    ``again``: it was delivered before, maybe to this consumer, and nobody knows which copy is acknowledged.
    """

    first: int
    last: int
    run: Run
    consumer: Consumer
    number: int
    again: bool


class Held(NamedTuple):
    """Adjacent messages that a consumer has, of delivery ``number``."""

    number: int
    first: int
    last: int


REMOVED_ONE_BY_ONE_MAX: Final = 64
"""Runs of a session that ends which are looked up among all in flight; of more, one pass goes over these."""
_first = attrgetter("first")
_last = attrgetter("last")


class InFlight:
    """Delivered runs by position, each message in one of them, and what each consumer has of them.

    Attributes:
        messages: their number.
    """

    def __init__(self) -> None:
        self.messages = 0
        self._delivered: list[Delivered] = []
        self._of: dict[int, dict[Delivered, None]] = {}
        """The same by consumer id."""

    def __iter__(self) -> Iterator[Delivered]:
        return iter(self._delivered)

    def add(self, run: Run, consumer: Consumer, number: int, *, again: bool = False) -> None:
        """Note that a run was sent to a consumer in delivery ``number``, ``again`` or for the first time."""
        run = run.owned()
        delivered = Delivered(run.first, run.last, run, consumer, number, again)
        if not self._delivered or self._delivered[-1].last < run.first:
            self._delivered.append(delivered)
        else:
            insort(self._delivered, delivered, key=_first)
        self._of.setdefault(consumer.consumer_id, {})[delivered] = None
        self.messages += len(run)
        if not consumer.unacked:
            consumer.progress.begin()
        consumer.unacked += len(run)
        consumer.unacked_bytes += run.size

    def within(self, first: int, last: int) -> list[Run]:
        """Return what is in flight of the positions ``first`` to ``last``."""
        low = bisect_left(self._delivered, first, key=_last)
        high = bisect_right(self._delivered, last, key=_first)
        return [
            each.run.part(max(each.first, first), min(each.last, last)) for each in self._delivered[low:high]
        ]

    def held_by(self, consumer: Consumer) -> list[Held]:
        """Return what a consumer has, in the order of delivery."""
        mine = self._of.get(consumer.consumer_id, ())
        return sorted(Held(each.number, each.first, each.last) for each in mine)

    def remove(self, first: int, last: int, *, answered: bool = False) -> None:
        """Remove the messages at the positions ``first`` to ``last``, as far as they are in flight.

        ``answered``: because their consumers acknowledged them, positively or negatively.
        """
        low = bisect_left(self._delivered, first, key=_last)
        high = bisect_right(self._delivered, last, key=_first)
        if low == high:
            return
        rest: list[Delivered] = []
        for each in self._delivered[low:high]:
            self._uncount(each)
            if answered:
                each.consumer.progress.acked(0 if each.again else each.number)
            run = each.run
            if each.first < first:
                rest.append(self._recount(each, run.part(each.first, first - 1)))
            if each.last > last:
                rest.append(self._recount(each, run.part(last + 1, each.last)))
        self._delivered[low:high] = rest

    def take_back(self, consumer: Consumer, *, received: int | None) -> list[Run]:
        """Remove and return what was sent in a consumer's session, or only what came after ``received``."""
        back: list[Delivered] = []
        for each in self._of.get(consumer.consumer_id, ()):
            if received is not None and each.number <= received:
                each.number = 0
            else:
                back.append(each)
        for each in back:
            self._uncount(each)
        if len(back) > REMOVED_ONE_BY_ONE_MAX:
            gone = set(back)
            self._delivered = [each for each in self._delivered if each not in gone]
        else:
            for each in back:
                del self._delivered[bisect_left(self._delivered, each.first, key=_first)]
        return [each.run for each in sorted(back, key=_first)]

    def clear(self) -> None:
        """Forget everything."""
        for each in self._delivered:
            self._uncount(each)
        self._delivered.clear()
        self._of.clear()

    def _recount(self, before: Delivered, rest: Run) -> Delivered:
        """Count what is left of a run from which messages were removed, and return it."""
        rest = rest.owned()
        count = len(rest)
        self.messages += count
        before.consumer.unacked += count
        before.consumer.unacked_bytes += rest.size
        left = Delivered(rest.first, rest.last, rest, before.consumer, before.number, before.again)
        self._of.setdefault(before.consumer.consumer_id, {})[left] = None
        return left

    def _uncount(self, each: Delivered) -> None:
        count = len(each.run)
        self.messages -= count
        each.consumer.unacked -= count
        each.consumer.unacked_bytes -= each.run.size
        mine = self._of[each.consumer.consumer_id]
        del mine[each]
        if not mine:
            del self._of[each.consumer.consumer_id]
