"""Non-reliable dispatch: at most once, nothing is stored, dropped messages are counted."""

from __future__ import annotations

from collections import deque

from danube_common.model.rate_limit import TokenBucket
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Dispatch, Message, Outgoing

WAITING_BYTES_MAX = 16 * 1024 * 1024
"""Bytes that wait for a consumer that is connected and has no room at the moment; more are dropped."""
MESSAGE_OVERHEAD_BYTES = 200
"""What a message counts in addition to its bytes."""
UNLIMITED = Window(1 << 62, 1 << 62)


class NonReliableDispatch(Dispatch):
    """Keeps a queue for bursts and for the time between a client's Subscribe and its stream.

    Attributes:
        dropped: messages that were dropped so far.
    """

    def __init__(self, subscription_type: SubscriptionType) -> None:
        super().__init__(subscription_type, UNLIMITED)
        self.dropped = 0
        self._queue: deque[Message] = deque()
        self._queue_bytes = 0

    @property
    def waiting(self) -> int:
        """Messages that wait for a consumer."""
        return len(self._queue)

    def offer(self, messages: list[Message]) -> None:
        """Queue messages, and drop those that exceed the bounds of the queue."""
        for message in messages:
            if self._queue_bytes >= WAITING_BYTES_MAX:
                self.dropped += 1
            else:
                self._queue.append(message)
                self._queue_bytes += len(message[1]) + MESSAGE_OVERHEAD_BYTES

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now; drop the queue if no consumer is present."""
        if self.present(now):
            return super().dispatch(now, buckets)
        self.dropped += len(self._queue)
        self._queue.clear()
        self._queue_bytes = 0
        return []

    def _first(self) -> Message | None:
        return self._queue[0] if self._queue else None

    def _sent(self, _consumer: Consumer, message: Message, _number: int) -> None:
        self._queue.popleft()
        self._queue_bytes -= len(message[1]) + MESSAGE_OVERHEAD_BYTES

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        """Messages are delivered at most once: nothing is taken back."""
