"""Restores the order of a producer's messages, because its concurrent calls may overtake each other.

A client with several unary calls in flight sends them in order, but neither HTTP/2 nor the server
library promises an order between calls: now and then one is handed over late. Official clients number
their messages consecutively, so a gap in the numbers says that an earlier message is still on its way.
"""

from __future__ import annotations

import asyncio
import heapq

HOLD_S_MAX = 0.25
"""A message waits for earlier ones until none has arrived for this long; then all waiting messages are
released in order.

Each arrival of an expected message extends the wait: under load the server library may hand over a call
before others that arrived some hundred milliseconds earlier.
"""
HOLD_PARTS = 5
"""The wait is split into this many timers. After a pause of the process its timer has expired while calls
that arrived meanwhile are unread: the pause then costs one part, and the calls are read in the next."""
HOLD_PARTS_MAX = 8 * HOLD_PARTS
"""The longest wait of a message, in parts, even if earlier messages keep arriving."""
TRUST_AFTER = 8
"""After this many consecutive numbers a gap means that a message is late."""
RESTART_DISTANCE = 4096
"""A number this far behind, or a first number, means that the producer restarted its numbering."""
FIRST_NUMBERS = 1
"""Rust clients begin with 0, Go clients with 1."""
FIRST_BURST = 1000
"""A new producer whose first number is greater started at another gateway, which is gone."""
SETTLE_PARTS = 2
"""Messages of such a producer are collected for this many parts; the lowest number is then the next one.
So is a producer's first message if its number is 1: message 0 of a Rust client may still be on its way."""


class ReorderBuffer:
    """Keeps the order of one producer. A producer whose numbers are not consecutive is delayed only once."""

    def __init__(self) -> None:
        self.highest = -1
        """The greatest number that has arrived."""
        self.forwarding = asyncio.Lock()
        """Held for each message in its turn while its schema is checked: the next one may not overtake it."""
        self._expected: int | None = None
        self._resumes_by = FIRST_NUMBERS
        """The greatest first number that a producer may have that begins here, or that was created again."""
        self._run = TRUST_AFTER
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self._parts = 0
        self._moved = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin_again(self) -> None:
        """The producer was created again: it goes on, resends some messages, or counts from the beginning."""
        if self._expected is not None:
            self._resumes_by, self._expected = max(self._expected, FIRST_NUMBERS), None
            self._run = TRUST_AFTER

    async def turn(self, number: int) -> None:
        """Wait until all earlier messages of this producer were forwarded, or the timeout has expired."""
        self.highest = max(self.highest, number)
        # Until a message was forwarded, even the first messages may arrive out of order.
        in_place = self._expected or 0
        if number <= in_place or self._run < TRUST_AFTER:
            return
        self._arrivals += 1
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (number, self._arrivals, self._parts, turn))
        if self._timer is None:
            self._time()
        await turn

    def passed(self, number: int) -> None:
        """Note that the message was queued or refused, and release the next one."""
        expected = self._expected
        if number == expected:
            self._run += 1
            self._moved = self._parts
        elif number <= FIRST_NUMBERS:
            self._run = TRUST_AFTER
        elif expected is not None and 0 < expected - number < RESTART_DISTANCE:
            return
        else:
            self._run = 0
        self._expected = number + 1
        self._release(everything=False)

    def _time(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HOLD_S_MAX / HOLD_PARTS, self._part_over)

    def _part_over(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._parts += 1
        oldest = min(since for _, _, since, _ in self._waiting)
        quiet = self._parts - max(oldest, self._moved)
        lowest = self._waiting[0][0]
        settles_soon = lowest <= self._resumes_by or lowest > FIRST_BURST
        if self._expected is None and quiet >= (SETTLE_PARTS if settles_soon else HOLD_PARTS):
            # A Go client's first message, or a producer that was created again or started at another gateway:
            # it resends from the lowest number, and more may arrive.
            self._expected, self._moved = lowest, self._parts
            self._release(everything=False)
        elif quiet >= HOLD_PARTS or self._parts - oldest >= HOLD_PARTS_MAX:
            self._run = 0
            self._release(everything=True)
            return
        self._time()

    def _release(self, *, everything: bool) -> None:
        while self._waiting and (everything or self._waiting[0][0] <= (self._expected or 0)):
            turn = heapq.heappop(self._waiting)[3]
            if not turn.done():
                turn.set_result(None)
                if not everything:
                    return
