"""Restores the order of a producer's messages, because its concurrent calls may overtake each other.

A client with several unary calls in flight sends them in order. Of the calls that it reads at once the server
library hands over the last one first, so every burst needs this. Official clients number their messages
consecutively: a gap in the numbers says that an earlier message is still on its way.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

HOLD_S = 0.125
"""A message waits for earlier ones until none has come in two intervals of this length; then all waiting
messages go in order. Two, because the first may have passed while the process stood still: calls that came
meanwhile are handed over in the second."""
HOLDS_MAX: Final = 16
"""The longest wait of a message in these intervals, even if earlier messages keep coming."""
TRUST_AFTER: Final = 8
"""After this many consecutive numbers a gap means that a message is late."""
RESTART_DISTANCE: Final = 4096
"""A number this far behind means that the producer numbers anew; a nearer one that it sends again."""


class ReorderBuffer:
    """Keeps the order of one producer. A producer whose numbers are not consecutive is delayed only once.

    Args:
        first: the producer's first number, as far as is known. A producer that begins with a greater one goes
            on from another gateway, or sends again: its first messages are collected, and the lowest is next.
    """

    def __init__(self, first: int = 0) -> None:
        self._expected = first
        self._begun = False
        self._run = TRUST_AFTER
        self._waiting: list[tuple[int, int, int, asyncio.Future[bool], Callable[[], bool]]] = []
        self._arrivals = 0
        self._holds = 0
        self._moved = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def highest(self) -> int:
        """The greatest number that was forwarded or waits; -1 if there is none."""
        return max((number for number, *_ in self._waiting), default=self._expected - 1)

    def begin_again(self, first: int = 0) -> None:
        """The producer was created again: it goes on, resends some messages, or counts from the beginning."""
        self._expected, self._begun, self._run = first, False, TRUST_AFTER

    def is_next(self, number: int) -> bool:
        """Return whether a message need not wait for others."""
        return number <= self._expected or self._run < TRUST_AFTER

    def hold(self, number: int, turn: asyncio.Future[bool], forward: Callable[[], bool]) -> None:
        """Keep a message that is not next until all earlier ones were forwarded, or the wait is over.

        Then ``forward`` is called, in the step that forwards the message before it: all that waited for one
        message leave together. It returns whether it forwarded or refused the message; if not, `passed` is to
        be called once that was done. A message whose ``turn`` is done was given up: it is passed over.
        """
        self._arrivals += 1
        heapq.heappush(self._waiting, (number, self._arrivals, self._holds, turn, forward))
        if self._timer is None:
            self._hold()

    def passed(self, number: int) -> None:
        """Note that the message was queued or refused, and forward those that waited for it."""
        self._note(number)
        if self._waiting:
            self._release()

    def _note(self, number: int) -> None:
        expected = self._expected
        if number == expected:
            self._run += 1
            self._moved = self._holds
        elif self._begun:
            if 0 < expected - number < RESTART_DISTANCE:
                return
            self._run = 0
        self._expected, self._begun = number + 1, True

    def _hold(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HOLD_S, self.hold_over)

    def hold_over(self) -> None:
        """Note that an interval of HOLD_S has passed."""
        self._timer = None
        if not self._waiting:
            return
        self._holds += 1
        oldest = min(since for _, _, since, _, _ in self._waiting)
        if self._holds - max(oldest, self._moved) >= 2:
            if self._begun:
                self._release_all()
                return
            lowest = self._waiting[0][0]
            near = sum(number - lowest < RESTART_DISTANCE for number, *_ in self._waiting)
            # One message alone says nothing of how its producer counts.
            self._run = TRUST_AFTER if near > 1 else 0
            self._expected, self._moved = lowest, self._holds
            self._release()
        elif self._holds - oldest >= HOLDS_MAX:
            self._release_all()
            return
        self._hold()

    def _release(self) -> None:
        """Forward what is next; messages that were given up are passed over."""
        while self._waiting and self._waiting[0][0] <= self._expected:
            number, _, _, turn, forward = heapq.heappop(self._waiting)
            if turn.done():
                self._expected = max(self._expected, number + 1)
            elif forward():
                self._note(number)
            else:
                return

    def _release_all(self) -> None:
        self._run = 0
        while self._waiting:
            number, _, _, turn, forward = heapq.heappop(self._waiting)
            if not turn.done() and forward():
                self._note(number)
