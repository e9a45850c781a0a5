"""Reliable dispatch: at least once, in order, within a bounded window of unacknowledged messages."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from danube_common.model.position import BEFORE_ALL
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Dispatch
from danube_topic_owner.delivery.in_flight import InFlight
from danube_topic_owner.journal.cursor import Cursor

PENDING_MESSAGES_MAX = 2000
PENDING_BYTES_MAX = 4 * 1024 * 1024
UNACKED_MAX = 50_000
"""Messages of one subscription that are delivered and not acknowledged. At the bound its delivery pauses."""


class ReliableDispatch(Dispatch):
    """Queues messages that were read and never sent; messages to redeliver go before them.

    Attributes:
        cursor: what is read and acknowledged.
        redelivered: messages that were sent again so far.
    """

    def __init__(self, subscription_type: SubscriptionType, cursor: Cursor, window: Window) -> None:
        super().__init__(subscription_type, window)
        self.cursor = cursor
        self.redelivered = 0
        self._in_flight = InFlight()
        self._pending: deque[Run] = deque()
        self._pending_messages = 0
        self._pending_bytes = 0
        self._again: list[tuple[int, Run]] = []
        """A heap of the runs to redeliver, by first position."""
        self._again_messages = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be read for this subscription: it has a consumer, and few messages wait."""
        return (
            bool(self.attached)
            and self._pending_messages < PENDING_MESSAGES_MAX
            and self._pending_bytes < PENDING_BYTES_MAX
        )

    @property
    def waiting(self) -> int:
        """Messages that wait for a consumer, those to be sent again included."""
        return self._pending_messages + self._again_messages

    @property
    def unacked(self) -> int:
        """Messages that were delivered and are not acknowledged."""
        return self._in_flight.messages

    @property
    def paused(self) -> bool:
        """Whether delivery waits for acknowledgements: UNACKED_MAX is reached."""
        return self._in_flight.messages >= UNACKED_MAX

    def offer(self, run: Run) -> None:
        """Queue a run that was read from log or archive, except what of it was acknowledged before."""
        for first, last in self.cursor.admit(run.first, run.last):
            part = run.part(first, last).owned()
            self._pending.append(part)
            self._count_pending(part, 1)

    def ack(self, spans: Iterable[tuple[int, int]], log_end: int) -> bool:
        """Acknowledge spans of adjacent positions (first and last) and return whether the cursor changed.

        Positions beyond ``log_end`` cannot be messages and are ignored.
        """
        changed = False
        for first, last in spans:
            for acked in self.cursor.ack(first, min(last, log_end)):
                changed = True
                self._in_flight.remove(*acked)
        return changed

    def expire(self, position: int) -> None:
        """Drop every message up to ``position``: these are no longer retained."""
        self.cursor.expire(position)
        self._in_flight.remove(BEFORE_ALL, position)

    def start_over(self, cursor: Cursor) -> None:
        """Go on at another cursor: forget every message, keep the sessions."""
        self.cursor = cursor
        self._in_flight.clear()
        self._pending.clear()
        self._again.clear()
        self._pending_messages = self._pending_bytes = self._again_messages = 0

    def _first(self) -> Run | None:
        if self.paused:
            return None
        while self._again:
            run = self._again[0][1]
            if (open_ := self._open_part(run)) is not None:
                return open_
            heapq.heappop(self._again)
            self._again_messages -= len(run)
        while self._pending:
            run = self._pending[0]
            if (open_ := self._open_part(run)) is not None:
                return open_
            self._pending.popleft()
            self._count_pending(run, -1)
        return None

    def _open_part(self, run: Run) -> Run | None:
        """Return the first open messages of a run, no more than UNACKED_MAX allows."""
        span = self.cursor.next_unacked(run.first, run.last)
        return run.part(*span).head(UNACKED_MAX - self._in_flight.messages) if span is not None else None

    def _sent(self, consumer: Consumer, run: Run, number: int) -> None:
        if self._again:
            waiting = heapq.heappop(self._again)[1]
            self._again_messages -= len(waiting)
            self.redelivered += len(run)
            if run.last < waiting.last:
                self._queue_again(waiting.part(run.last + 1, waiting.last))
        else:
            waiting = self._pending.popleft()
            self._count_pending(waiting, -1)
            if run.last < waiting.last:
                rest = waiting.part(run.last + 1, waiting.last)
                self._pending.appendleft(rest)
                self._count_pending(rest, 1)
        self._in_flight.add(run, consumer, number)

    def _count_pending(self, run: Run, sign: int) -> None:
        self._pending_messages += sign * len(run)
        self._pending_bytes += sign * run.size

    def _queue_again(self, run: Run) -> None:
        heapq.heappush(self._again, (run.first, run))
        self._again_messages += len(run)

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        for run in self._in_flight.take_back(consumer, received=received):
            self._queue_again(run)
