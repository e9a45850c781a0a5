"""Non-reliable dispatch: at most once, nothing is stored, dropped messages are counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Dispatch, Outgoing

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
        self._queue: deque[Run] = deque()
        self._waiting = 0
        self._queue_bytes = 0

    @property
    def waiting(self) -> int:
        """Messages that wait for a consumer."""
        return self._waiting

    def offer(self, run: Run) -> None:
        """Queue a run, and drop what exceeds the bounds of the queue."""
        room = WAITING_BYTES_MAX - self._queue_bytes
        if room <= 0:
            taken = 0
        elif _cost(run) < room:
            taken = len(run)
        else:
            taken = min(
                bisect_left(range(1, len(run) + 1), room, key=lambda n: _cost(run.head(n))) + 1, len(run)
            )
        self.dropped += len(run) - taken
        if taken:
            # Beside the run nothing of its section waits here.
            self._queue.append(run.head(taken).owned())
            self._count(run.head(taken), 1)

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now; drop the queue if no consumer is present."""
        if self.present(now):
            return super().dispatch(now, buckets)
        self.dropped += self._waiting
        self._queue.clear()
        self._waiting = self._queue_bytes = 0
        return []

    def _first(self) -> Run | None:
        return self._queue[0] if self._queue else None

    def _sent(self, _consumer: Consumer, run: Run, _number: int) -> None:
        self._count(run, -1)
        if len(run) < len(self._queue[0]):
            self._queue[0] = self._queue[0].tail(len(run))
        else:
            self._queue.popleft()

    def _count(self, run: Run, sign: int) -> None:
        self._waiting += sign * len(run)
        self._queue_bytes += sign * _cost(run)

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        """Messages are delivered at most once: nothing is taken back."""


def cost_of(messages: int, size: int) -> int:
    """Return what messages of ``size`` bytes in all count."""
    return size + messages * MESSAGE_OVERHEAD_BYTES


def _cost(run: Run) -> int:
    return cost_of(len(run), run.size)
