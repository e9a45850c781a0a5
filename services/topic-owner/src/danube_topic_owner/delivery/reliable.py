"""Reliable dispatch: at least once, in order, a bounded window of unacknowledged messages."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from danube_common.model.position import SEQUENCE_MAX, end_of_sequence
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer
from danube_topic_owner.delivery.dispatch import Batches, Dispatch, Message, Outgoing
from danube_topic_owner.journal.cursor import Cursor

PENDING_MESSAGES_MAX = 2000
PENDING_BYTES_MAX = 4 * 1024 * 1024


class ReliableDispatch(Dispatch):
    """Messages wait in ``pending`` (read, never sent) or among those to be sent again, which go first."""

    def __init__(
        self,
        subscription_type: SubscriptionType,
        cursor: Cursor,
        *,
        window_messages: int,
        window_bytes: int,
    ) -> None:
        super().__init__(subscription_type, window_messages, window_bytes)
        self.cursor = cursor
        self.redelivered = 0
        self._pending: deque[Message] = deque()
        self._pending_bytes = 0
        self._again: list[Message] = []
        self._holders: dict[int, Consumer] = {}

    @property
    def has_room(self) -> bool:
        """Whether more may be read for this subscription: it has a consumer and little waits."""
        return (
            bool(self._joined)
            and len(self._pending) < PENDING_MESSAGES_MAX
            and self._pending_bytes < PENDING_BYTES_MAX
        )

    @property
    def waiting(self) -> int:
        return len(self._pending) + len(self._again)

    @property
    def unacked(self) -> int:
        return len(self._holders)

    @property
    def unacked_read(self) -> int:
        """Messages that were read and are not acknowledged, delivered or not."""
        return self.cursor.unacked_through(end_of_sequence(SEQUENCE_MAX))

    def offer(self, messages: list[Message]) -> None:
        admit, pending = self.cursor.admit, self._pending
        for message in messages:
            if admit(message[0]):
                pending.append(message)
                self._pending_bytes += len(message[1])

    def ack(self, positions: Iterable[int], log_end: int) -> bool:
        """Acknowledge; positions beyond ``log_end`` cannot be messages. True if the cursor changed."""
        changed = False
        for position in positions:
            if position > log_end or not self.cursor.ack(position):
                continue
            changed = True
            holder = self._holders.pop(position, None)
            if holder is not None:
                holder.release(position)
        return changed

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        budget = min((bucket.available(now) for bucket in buckets), default=float("inf"))
        batches = Batches()
        sent = 0
        while sent + 1 <= budget and (message := self._first()) is not None:
            consumer = self._choose()
            if consumer is None:
                break
            self._drop_first()
            number = batches.add(consumer, message)
            consumer.hold(message[0], message[1], number)
            self._holders[message[0]] = consumer
            sent += 1
        for bucket in buckets:
            bucket.take(sent)
        return batches.close()

    def _first(self) -> Message | None:
        """The next message to send; those acknowledged meanwhile are passed over."""
        while self._again:
            if not self.cursor.is_acked(self._again[0][0]):
                return self._again[0]
            heapq.heappop(self._again)
        while self._pending:
            if not self.cursor.is_acked(self._pending[0][0]):
                return self._pending[0]
            self._pending_bytes -= len(self._pending.popleft()[1])
        return None

    def _drop_first(self) -> None:
        if self._again:
            heapq.heappop(self._again)
            self.redelivered += 1
        else:
            self._pending_bytes -= len(self._pending.popleft()[1])

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        for position, message in list(consumer.unacked.items()):
            if received is not None and message.number <= received:
                message.number = 0
                continue
            consumer.release(position)
            del self._holders[position]
            heapq.heappush(self._again, (position, message.data))

    def expire(self, position: int) -> None:
        """Messages up to ``position`` are retained no longer: none of them is sent or awaited any more."""
        self.cursor.expire(position)
        while self._pending and self._pending[0][0] <= position:
            self._pending_bytes -= len(self._pending.popleft()[1])
        self._again = [message for message in self._again if message[0] > position]
        heapq.heapify(self._again)
        for each in [each for each in self._holders if each <= position]:
            self._holders.pop(each).release(each)

    def start_over(self, cursor: Cursor) -> None:
        """Forget every message; sessions stay."""
        self.cursor = cursor
        self._pending.clear()
        self._pending_bytes = 0
        self._again.clear()
        self._holders.clear()
        for consumer in self.consumers.values():
            consumer.unacked.clear()
            consumer.unacked_bytes = 0
