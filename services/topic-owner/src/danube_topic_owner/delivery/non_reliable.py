"""Non-reliable dispatch: at most once, nothing stored, drops counted."""

from __future__ import annotations

from collections import deque

from danube_common.model.rate_limit import TokenBucket
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer
from danube_topic_owner.delivery.dispatch import Batches, Dispatch, Message, Outgoing

WAITING_MESSAGES_MAX = 1000
WAITING_BYTES_MAX = 16 * 1024 * 1024
UNLIMITED = 1 << 62


class NonReliableDispatch(Dispatch):
    """A short queue bridges the moment between a client's Subscribe and its stream, and bursts."""

    def __init__(self, subscription_type: SubscriptionType) -> None:
        super().__init__(subscription_type, window_messages=UNLIMITED, window_bytes=UNLIMITED)
        self.dropped = 0
        self._queue: deque[Message] = deque()
        self._queue_bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def offer(self, messages: list[Message]) -> None:
        for message in messages:
            if len(self._queue) >= WAITING_MESSAGES_MAX or self._queue_bytes >= WAITING_BYTES_MAX:
                self.dropped += 1
            else:
                self._queue.append(message)
                self._queue_bytes += len(message[1])

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        if not self.present(now):
            self._drop_waiting()
            return []
        budget = min((bucket.available(now) for bucket in buckets), default=float("inf"))
        batches = Batches()
        sent = 0
        while self._queue and sent + 1 <= budget:
            consumer = self._choose()
            if consumer is None:
                break
            message = self._queue.popleft()
            self._queue_bytes -= len(message[1])
            batches.add(consumer, message)
            sent += 1
        for bucket in buckets:
            bucket.take(sent)
        return batches.close()

    def _drop_waiting(self) -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        self._queue_bytes = 0

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        """What was sent is gone: at most once."""
