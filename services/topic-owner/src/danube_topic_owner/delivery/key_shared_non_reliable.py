"""Key-shared dispatch of a non-reliable topic: the ring decides, nothing is remembered of a key. Pure."""

from __future__ import annotations

from collections import deque
from math import inf

from danube_common.model.position import BEFORE_ALL
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.dispatch import Deliveries, Outgoing
from danube_topic_owner.delivery.key_ring import KeyRing, key_of
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch, cost_of


class KeySharedNonReliableDispatch(NonReliableDispatch):
    """Queues messages for the consumer of their key; drops those whose key no consumer may have."""

    def __init__(self) -> None:
        super().__init__(SubscriptionType.KEY_SHARED)
        self._ring: KeyRing | None = None
        self._queues: dict[int, deque[bytes]] = {}
        """By consumer id."""

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now; drop what waits if no consumer is present."""
        if not self.present(now):
            self._queues.clear()
            return super().dispatch(now, buckets)
        if not self.attached:
            return []
        self._route()
        budget = min((bucket.available(now) for bucket in buckets), default=inf)
        most = left = self.waiting if budget == inf else min(int(budget), self.waiting)
        deliveries = Deliveries()
        for consumer in self.attached:
            queue = self._queues.get(consumer.consumer_id)
            messages, size = consumer.room(self.window)
            if not queue or messages <= 0 or size <= 0 or left <= 0:
                continue
            chosen: list[bytes] = []
            while queue and len(chosen) < min(messages, left) and size > 0:
                size -= len(queue[0])
                chosen.append(queue.popleft())
            run = Run.of(BEFORE_ALL, chosen)
            for _ in deliveries.add(consumer, run):
                pass
            self._count(run, -1)
            left -= len(chosen)
        for bucket in buckets:
            bucket.take(most - left)
        return deliveries.outgoing

    def _route(self) -> None:
        if self._ring is None:
            self._ring = KeyRing((each.consumer_id, each.key_filters) for each in self.attached)
        while self._queue:
            for message in self._queue.popleft().messages():
                consumer_id = self._ring.consumer_of(key_of(message))
                if consumer_id is None:
                    self.dropped += 1
                    self._waiting -= 1
                    self._queue_bytes -= cost_of(1, len(message))
                else:
                    self._queues.setdefault(consumer_id, deque()).append(message)

    def _consumers_changed(self) -> None:
        """Route again what waits; the messages of one key wait in one queue, so that their order stays."""
        self._ring = None
        routed = [Run.of(BEFORE_ALL, list(queue)) for queue in self._queues.values() if queue]
        self._queue.extendleft(reversed(routed))
        self._queues.clear()
