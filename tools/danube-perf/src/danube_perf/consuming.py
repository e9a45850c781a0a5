"""One consumer under load: receives, checks, and acknowledges with a bounded number of unanswered calls."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from danube_perf.channel import Channel
from danube_perf.contract import Subscription
from danube_perf.integrity import Integrity
from danube_perf.latency import Latencies
from danube_perf.payload import Clock, stamp_of
from danube_perf.plan import REASONS_MAX, ConsumerPlan, Start
from danube_perf.streaming import Link, StreamSubscription

Delivery = Any
"""A message as its subscription hands it out and takes it back; it has a payload."""


@dataclass(slots=True)
class Budget:
    """How many measured messages the consumers of a process take together; None is any number."""

    left: int | None

    def take(self) -> bool:
        """Return whether one more may be taken, and count it."""
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


class Reader:
    """Takes the messages of one consumer. Unhandled ones are bounded by the stream's window.

    Attributes:
        received: measured messages.
        foreign: messages that are not of this run.
        failed_acks: why acknowledgements failed, with counts.
        last_ns: when the last measured message came.
        acked_ns: when the last measured acknowledgement was answered.
        heard_ns: when the last message of all came.
        broken: why the stream ended; None while it stands.
        on_ack: called after each acknowledgement.
    """

    def __init__(
        self,
        plan: ConsumerPlan,
        channel: Channel | Link,
        run: int | None,  # None takes the messages of all runs
        acks_in_flight: int,
        integrity: Integrity,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self.received = 0
        self.foreign = 0
        self.failed_acks: Counter[str] = Counter()
        self.last_ns = 0
        self.acked_ns = 0
        self.heard_ns = 0
        self.broken: str | None = None
        self.on_ack: Callable[[], None] | None = None
        self.ended = asyncio.Event()
        self._plan = plan
        self._run = run
        self._acks_in_flight_max = acks_in_flight
        self._integrity = integrity
        self._budget = budget
        self._stopped = False
        self._clock = clock
        self._waiting: deque[Delivery] = deque()
        self._early: list[Delivery] = []
        self._acks = 0
        self._start: Start | None = None
        self._subscription: Subscription | StreamSubscription
        if isinstance(channel, Link):
            self._subscription = StreamSubscription(
                channel, plan.subscription, self._arrived, self._stream_ended
            )
        else:
            self._subscription = Subscription(channel, plan.subscription, self._arrived, self._stream_ended)

    async def attach(self) -> None:
        """Subscribe. Raises CallError."""
        await self._subscription.attach(self._plan)

    async def close(self) -> None:
        """End the stream; the channel is the caller's."""
        await self._subscription.close()

    def begin(self, start: Start, end_to_end: Latencies, ack: Latencies) -> None:
        """Measure what is sent from ``measure_ns`` on."""
        self._start = start
        self._end_to_end = end_to_end
        self._ack = ack
        early, self._early = self._early, []
        self._arrived(early)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return not self._waiting and not self._acks

    def stop(self) -> None:
        """Take no more messages; those that wait are not acknowledged."""
        self._stopped = True
        self._waiting.clear()

    def _arrived(self, deliveries: list[Delivery]) -> None:
        if self._stopped:
            return
        start = self._start
        if start is None:
            self._early += deliveries
            return
        now_ns = self.heard_ns = self._clock.now_ns()
        for at, delivery in enumerate(deliveries):
            stamp = stamp_of(delivery.payload)
            if stamp is None or (self._run is not None and stamp.run != self._run):
                self.foreign += 1
                continue
            producer, counts_from_ns = stamp.producer, stamp.sent_ns
            if self._run is None:
                producer, counts_from_ns = stamp.run << 32 | producer, now_ns
                if not self._integrity.knows(producer):
                    self._integrity.begin_at(producer, stamp.number)
            measured = counts_from_ns >= start.measure_ns
            if measured and not self._budget.take():
                self._stopped = True
                deliveries = deliveries[:at]
                break
            first = self._integrity.take(producer, stamp.number)
            if measured:
                self.received += 1
                self.last_ns = now_ns
                if first:
                    self._end_to_end.note(now_ns - stamp.sent_ns)
        self._waiting.extend(deliveries)
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self._acks < self._acks_in_flight_max:
            self._acks += 1
            self._acknowledge(self._waiting.popleft())

    def _acknowledge(self, delivery: Delivery) -> None:
        began_ns = self._clock.now_ns()

        def answered(status: int, text: str) -> None:
            self._acks -= 1
            self._subscription.grant(delivery)
            if status:
                reason = text or f"gRPC status {status}"
                known = reason in self.failed_acks or len(self.failed_acks) < REASONS_MAX
                self.failed_acks[reason if known else "other reasons"] += 1
            elif self._start is not None and began_ns >= self._start.measure_ns:
                self.acked_ns = self._clock.now_ns()
                self._ack.note(self.acked_ns - began_ns)
            self._pump()
            if self.on_ack is not None:
                self.on_ack()

        self._subscription.acknowledge(delivery, answered)

    def _stream_ended(self, status: int, text: str) -> None:
        self.broken = text or f"gRPC status {status}"
        self.ended.set()
