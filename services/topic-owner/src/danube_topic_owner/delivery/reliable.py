"""Reliable dispatch: at least once, in order, within a bounded window of unacknowledged messages."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from danube_common.model.failure_policy import FailurePolicy, PoisonPolicy
from danube_common.model.position import BEFORE_ALL
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.ack_progress import MARKS_MAX, Overdue
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Dispatch, Outgoing
from danube_topic_owner.delivery.in_flight import Held, InFlight
from danube_topic_owner.delivery.retries import Retries
from danube_topic_owner.journal.cursor import Cursor, Span

PENDING_MESSAGES_MAX = 2000
PENDING_BYTES_MAX = 4 * 1024 * 1024
UNACKED_MAX = 50_000
"""Messages of one subscription that were delivered and are not acknowledged, those that failed included. At
the bound no other messages are delivered."""
FAILED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of one subscription's messages that failed and wait. At the bound no other messages are delivered."""
NOT_ACKNOWLEDGED = "not acknowledged in time"
CHECK_INTERVAL_MIN_S = 0.05
CHECK_INTERVAL_MAX_S = 1.0
"""How often deliveries are looked at whose acknowledgement may be overdue; otherwise the timeout decides."""


DEFAULT_POLICY: Final = FailurePolicy()


class _Source(Enum):
    """Where the messages come from that are sent next."""

    PENDING = "pending"
    AGAIN = "again"
    RETRIES = "retries"


class FailureFigures(NamedTuple):
    """Totals since this owner serves the subscription."""

    nacked: int = 0
    timed_out: int = 0
    exhausted: tuple[int, ...] = (0,) * len(PoisonPolicy)
    """By poison policy."""


NO_FAILURES: Final = FailureFigures()


class ReliableDispatch(Dispatch):
    """Queues messages that were read and never sent; messages to redeliver go before them.

    In exclusive and failover subscriptions no message is sent while one before it waits for its next attempt.

    Attributes:
        cursor: what is read and acknowledged.
        ordered: whether messages are sent in order (exclusive and failover).
        retries: messages whose delivery has failed.
        redelivered: messages that were sent again so far.
        unacked_max: bound of unacknowledged messages, of all consumers together.
        failures_told: the `failure_figures` that are in the metrics already.
    """

    def __init__(
        self,
        subscription_type: SubscriptionType,
        cursor: Cursor,
        window: Window,
        policy: FailurePolicy = DEFAULT_POLICY,
        failures: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(subscription_type, window)
        self.cursor = cursor
        self.ordered = subscription_type in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER)
        self.retries = Retries(policy, ordered=self.ordered, failures=failures)
        self.redelivered = 0
        self.unacked_max = UNACKED_MAX
        self.failures_told = NO_FAILURES
        self._nacked = 0
        self._timed_out = 0
        self._now = 0.0
        self._check_at = 0.0
        self._source = _Source.PENDING
        self._in_flight = InFlight()
        self._pending: deque[Run] = deque()
        self._pending_messages = 0
        self._pending_bytes = 0
        self._again: list[tuple[int, Run]] = []
        """A heap of the runs to redeliver that did not fail, by first position."""
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
        waiting = self._pending_messages + self._again_messages
        return waiting + self.retries.waiting if self.retries.held else waiting

    @property
    def unacked(self) -> int:
        """Messages that were delivered and are not acknowledged."""
        return self._in_flight.messages

    @property
    def paused(self) -> bool:
        """Whether messages that were never sent wait for acknowledgements: a bound is reached."""
        return self._room <= 0 or self.retries.held_bytes >= FAILED_BYTES_MAX

    @property
    def failure_figures(self) -> FailureFigures:
        """What failed so far, in figures."""
        if not (self._nacked or self._timed_out):
            return NO_FAILURES
        return FailureFigures(self._nacked, self._timed_out, tuple(self.retries.exhausted.values()))

    @property
    def _room(self) -> int:
        return self.unacked_max - self.unacked - self._again_messages - self.retries.held

    @property
    def wake_at(self) -> float | None:
        """When `dispatch` has something to do even if nothing happens until then (monotonic seconds)."""
        retries = self.retries
        check_at = self._check_at if self.unacked and retries.policy.ack_timeout_ms else None
        if not retries.held or not self.attached:
            return check_at
        due = retries.due
        if due is None or due <= self._now:  # what is due waits for a consumer with room
            return check_at
        return due if check_at is None else min(due, check_at)

    def offer(self, run: Run) -> None:
        """Queue a run that was read from log or archive, except what of it was acknowledged before."""
        for first, last in self.cursor.admit(run.first, run.last):
            part = run.part(first, last)
            for each in self._not_failed(part) if self.retries.unread else (part,):
                part = each.owned()
                self._pending.append(part)
                self._count_pending(part, 1)

    def _not_failed(self, run: Run) -> list[Run]:
        """Hand over what failed under an earlier owner; return the rest."""
        parts: list[Run] = []
        first = run.first
        for position, message in run.entries():
            if self.retries.read(position, message, run.offset_at(position)):
                if first < position:
                    parts.append(run.part(first, position - 1))
                first = position + 1
        if first <= run.last:
            parts.append(run.part(first, run.last))
        return parts

    def ack(self, spans: Iterable[tuple[int, int]], log_end: int) -> bool:
        """Acknowledge spans of adjacent positions (first and last) and return whether the cursor changed.

        Positions beyond ``log_end`` cannot be messages and are ignored.
        """
        known = sorted([(first, min(last, log_end)) for first, last in spans if first <= log_end])
        acked = self.cursor.ack_all(known)
        self._acked(acked)
        if self.retries:
            for first, last in acked:
                self.retries.forget(first, last)
        return bool(acked)

    def _acked(self, spans: list[Span]) -> None:
        for first, last in spans:
            self._in_flight.remove(first, last, answered=True)

    def nack(self, first: int, last: int, now: float, *, delay_ms: int = 0, reason: str = "") -> None:
        """Take in that the delivery of messages failed, as far as they are in flight."""
        self._nacked += self._fail(first, last, now, delay_ms=delay_ms, reason=reason, answered=True)

    def _fail(
        self, first: int, last: int, now: float, *, delay_ms: int = 0, reason: str, answered: bool = False
    ) -> int:
        failed = self._in_flight.within(first, last)
        self._in_flight.remove(first, last, answered=answered)
        for run in failed:
            for position, message in run.entries():
                offset = run.offset_at(position)
                self.retries.fail(position, message, now, offset=offset, requested_ms=delay_ms, reason=reason)
        return sum(map(len, failed))

    def change_policy(self, policy: FailurePolicy, now: float) -> None:
        """Apply another failure policy from now on."""
        self.retries.change_policy(policy, now)
        self._check_at = now

    def failures_stored(self) -> bool:
        """Note that the failures that were journaled last are stored; return whether there were any."""
        return self.retries.stored()

    def expire(self, position: int) -> None:
        """Drop every message up to ``position``: these are no longer retained."""
        self.cursor.expire(position)
        self._in_flight.remove(BEFORE_ALL, position)
        self.retries.forget(BEFORE_ALL, position)

    def start_over(self, cursor: Cursor) -> None:
        """Go on at another cursor: forget every message, keep the sessions."""
        self.cursor = cursor
        exhausted = self.retries.exhausted
        self.retries = Retries(self.retries.policy, ordered=self.ordered)
        self.retries.exhausted = exhausted
        self._in_flight.clear()
        self._pending.clear()
        self._again.clear()
        self._pending_messages = self._pending_bytes = self._again_messages = 0

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now, within the rates of ``buckets``."""
        self._now = now
        if now >= self._check_at:
            self._check_timeouts(now)
        return super().dispatch(now, buckets)

    def _check_timeouts(self, now: float) -> None:
        timeout_s = self.retries.policy.ack_timeout_ms / 1000
        if not timeout_s:
            return
        self._check_at = now + min(max(timeout_s / MARKS_MAX, CHECK_INTERVAL_MIN_S), CHECK_INTERVAL_MAX_S)
        if not self.unacked:
            return
        for consumer in self.attached:
            if consumer.unacked:
                overdue = consumer.progress.check(now, timeout_s)
                if overdue.silent or overdue.through >= 0:
                    self._time_out(consumer, overdue, now)

    def _time_out(self, consumer: Consumer, overdue: Overdue, now: float) -> None:
        held = self._held_by(consumer)
        for each in held:
            if each.number <= overdue.through:
                self._timed_out += self._fail(each.first, each.last, now, reason=NOT_ACKNOWLEDGED)
        if not overdue.silent:
            return
        rest = [each for each in held if each.number > overdue.through]
        if rest:
            self._timed_out += self._fail(rest[0].first, rest[0].first, now, reason=NOT_ACKNOWLEDGED)
        if self.subscription_type is SubscriptionType.SHARED and len(self.attached) > 1:
            self._session_over(consumer, received=None)
        consumer.progress.begin()

    def _held_by(self, consumer: Consumer) -> list[Held]:
        return self._in_flight.held_by(consumer)

    def _first(self) -> Run | None:
        retries = self.retries
        if retries.held:
            held_back = retries.first_held
            if (run := self._first_again()) is not None and (held_back is None or run.first < held_back):
                return run
            if (retry := retries.next(self._now)) is not None:
                self._source = _Source.RETRIES
                return Run.of(retry.position, [retry.data], retry.offset)
            if held_back is not None:
                return None
        elif self._again and (run := self._first_again()) is not None:
            return run
        return None if self.paused else self._first_pending()

    def _first_again(self) -> Run | None:
        self._source = _Source.AGAIN
        while self._again:
            run = self._again[0][1]
            if (open_ := self._open_part(run)) is not None:
                return open_
            heapq.heappop(self._again)
            self._again_messages -= len(run)
        return None

    def _first_pending(self) -> Run | None:
        self._source = _Source.PENDING
        while self._pending:
            run = self._pending[0]
            if (open_ := self._open_part(run)) is not None:
                return open_.head(self._room)
            self._pending.popleft()
            self._count_pending(run, -1)
        return None

    def _open_part(self, run: Run) -> Run | None:
        span = self.cursor.next_unacked(run.first, run.last)
        return run.part(*span) if span is not None else None

    def _sent(self, consumer: Consumer, run: Run, number: int) -> None:
        if self._source is _Source.PENDING:
            waiting = self._pending.popleft()
            self._count_pending(waiting, -1)
            if run.last < waiting.last:
                rest = waiting.part(run.last + 1, waiting.last)
                self._pending.appendleft(rest)
                self._count_pending(rest, 1)
        else:
            self.redelivered += len(run)
            if self._source is _Source.RETRIES:
                self.retries.take()
            else:
                waiting = heapq.heappop(self._again)[1]
                self._again_messages -= len(waiting)
                if run.last < waiting.last:
                    self._queue_again(waiting.part(run.last + 1, waiting.last))
        self._in_flight.add(run, consumer, number, again=self._source is not _Source.PENDING)

    def _count_pending(self, run: Run, sign: int) -> None:
        self._pending_messages += sign * len(run)
        self._pending_bytes += sign * run.size

    def _queue_again(self, run: Run) -> None:
        heapq.heappush(self._again, (run.first, run))
        self._again_messages += len(run)

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        for run in self._in_flight.take_back(consumer, received=received):
            self._queue_again(run)
