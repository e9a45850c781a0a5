"""Reliable dispatch: at least once, in order, within a bounded window of unacknowledged messages."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Dispatch, Message
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
        self._pending: deque[Message] = deque()
        self._pending_bytes = 0
        self._again: list[Message] = []
        """A heap of the messages to redeliver."""
        self._holders: dict[int, Consumer] = {}
        """The consumer of each unacknowledged delivered message, by position."""

    @property
    def has_room(self) -> bool:
        """Whether more may be read for this subscription: it has a consumer, and few messages wait."""
        return (
            bool(self.attached)
            and len(self._pending) < PENDING_MESSAGES_MAX
            and self._pending_bytes < PENDING_BYTES_MAX
        )

    @property
    def waiting(self) -> int:
        """Messages that wait for a consumer, those to be sent again included."""
        return len(self._pending) + len(self._again)

    @property
    def unacked(self) -> int:
        """Messages that were delivered and are not acknowledged."""
        return len(self._holders)

    @property
    def paused(self) -> bool:
        """Whether delivery waits for acknowledgements: UNACKED_MAX is reached."""
        return len(self._holders) >= UNACKED_MAX

    def offer(self, messages: list[Message]) -> None:
        """Queue messages that were read from log or archive, except those acknowledged before."""
        admit, pending = self.cursor.admit, self._pending
        for message in messages:
            if admit(message[0]):
                pending.append(message)
                self._pending_bytes += len(message[1])

    def ack(self, positions: Iterable[int], log_end: int) -> bool:
        """Acknowledge positions and return whether the cursor changed.

        Positions beyond ``log_end`` cannot be messages and are ignored.
        """
        changed = False
        for position in positions:
            if position > log_end or not self.cursor.ack(position):
                continue
            changed = True
            holder = self._holders.pop(position, None)
            if holder is not None:
                holder.release(position)
        return changed

    def expire(self, position: int) -> None:
        """Drop every message up to ``position``: these are no longer retained."""
        self.cursor.expire(position)
        while self._pending and self._pending[0][0] <= position:
            self._pop_pending()
        self._again = [message for message in self._again if message[0] > position]
        heapq.heapify(self._again)
        for each in [each for each in self._holders if each <= position]:
            self._holders.pop(each).release(each)

    def start_over(self, cursor: Cursor) -> None:
        """Go on at another cursor: forget every message, keep the sessions."""
        self.cursor = cursor
        self._pending.clear()
        self._pending_bytes = 0
        self._again.clear()
        self._holders.clear()
        for consumer in self.consumers.values():
            consumer.unacked.clear()
            consumer.unacked_bytes = 0

    def _first(self) -> Message | None:
        if self.paused:
            return None
        while self._again:
            if not self.cursor.is_acked(self._again[0][0]):
                return self._again[0]
            heapq.heappop(self._again)
        while self._pending:
            if not self.cursor.is_acked(self._pending[0][0]):
                return self._pending[0]
            self._pop_pending()
        return None

    def _sent(self, consumer: Consumer, message: Message, number: int) -> None:
        if self._again:
            heapq.heappop(self._again)
            self.redelivered += 1
        else:
            self._pop_pending()
        consumer.hold(*message, number)
        self._holders[message[0]] = consumer

    def _pop_pending(self) -> None:
        self._pending_bytes -= len(self._pending.popleft()[1])

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        for position, message in list(consumer.unacked.items()):
            if received is not None and message.number <= received:
                message.number = 0
                continue
            consumer.release(position)
            del self._holders[position]
            heapq.heappush(self._again, (position, message.data))
