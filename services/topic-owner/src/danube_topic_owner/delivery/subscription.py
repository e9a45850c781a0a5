"""An active subscription: its dispatch and, for reliable topics, how far it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from danube_common.cluster.records import Topic
from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.position import SEQUENCE_MAX, end_of_sequence, position_of, sequence_of
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.frame import Frame
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.delivery.dispatch import Dispatch
from danube_topic_owner.delivery.key_shared import KeySharedDispatch
from danube_topic_owner.delivery.key_shared_non_reliable import KeySharedNonReliableDispatch
from danube_topic_owner.delivery.log_offsets import LogOffsets
from danube_topic_owner.delivery.missed import Missed
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.delivery.reliable import DEFAULT_POLICY, ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor
from danube_topic_owner.journal.events import (
    CursorMoved,
    CursorSet,
    Event,
    cursor_moves,
    failed_messages,
)
from danube_topic_owner.journal.state import SubscriptionState

Key = tuple[int, str]
"""Topic id and subscription name."""


@dataclass(slots=True)
class ActiveSubscription:
    """A subscription that is served.

    Attributes:
        topic: the topic's name.
        rate: the subscription's dispatch rate.
        losses_counted: dropped or redelivered messages that are in the metrics already.
        drops_told: dropped messages of a non-reliable topic that its consumers were told of.
    """

    topic_id: int
    topic: str
    state: SubscriptionState
    dispatch: Dispatch
    rate: TokenBucket
    losses_counted: int = field(default=0, kw_only=True)
    drops_told: int = field(default=0, kw_only=True)

    @property
    def key(self) -> Key:
        """Identifies the subscription within its bundle."""
        return self.topic_id, self.state.name

    @property
    def caught_up(self) -> bool:
        """Whether it has sent everything that the topic has."""
        return not self.dispatch.waiting

    @property
    def losses(self) -> tuple[int, int]:
        """How many messages it lost, and of how many its consumers were told.

        Both count over its life or, for a non-reliable topic, since this owner serves it.
        """
        if isinstance(self.dispatch, NonReliableDispatch):
            return self.dispatch.dropped, self.drops_told
        return self.state.lost, self.state.losses_told


@dataclass(slots=True)
class ReadBlock:
    """A read from the archive that failed.

    Attributes:
        sequence: the log sequence where reading stopped.
        reason: what to tell an operator; empty if the read is only repeated.
        until_s: when the read is tried again (the loop's time).
        wait_s: the wait that ends then; the next one is longer.
    """

    sequence: int
    reason: str
    until_s: float
    wait_s: float


@dataclass(slots=True)
class LogSubscription(ActiveSubscription):
    """A subscription of a reliable topic.

    Attributes:
        next_sequence: the log sequence to read next, while the subscription is behind the live feed.
        at_tail: whether the live feed serves the subscription.
        read_block: why reading from the archive does not go on; None if nothing is known.
        mark_dirty: journals the cursor; called whenever it moves.
        mark_ready: dispatches the subscription; called when failures are journaled and may come again.
        restarted: whether the cursor was replaced since it was journaled.
        missed: what the live feed passed while the subscription was behind.
        poison_problem: why poison could not be dead-lettered; empty if it could, or nothing is known.
    """

    dispatch: ReliableDispatch
    next_sequence: int
    at_tail: bool = False
    read_block: ReadBlock | None = field(default=None, kw_only=True)
    mark_dirty: Callable[[LogSubscription], None] = field(kw_only=True)
    mark_ready: Callable[[LogSubscription], None] = field(kw_only=True)
    restarted: bool = field(default=False, kw_only=True)
    missed: Missed = field(default_factory=Missed, kw_only=True)
    poison_problem: str = field(default="", kw_only=True)

    @property
    def caught_up(self) -> bool:
        """Whether it has sent everything that the topic has."""
        return self.at_tail and not self.dispatch.waiting

    @property
    def wants_backlog(self) -> bool:
        """Whether the subscription is behind the tail and has a consumer and room for more messages."""
        return not self.at_tail and self.dispatch.has_room

    @property
    def unread_after(self) -> int | None:
        """The position after which every message of the topic is still to be read; None at the tail."""
        if self.at_tail:
            return None
        return max(self.dispatch.cursor.read_position, position_of(self.next_sequence, 0, 0) - 1)

    @property
    def open_after(self) -> int | None:
        """The position up to which no message awaits an acknowledgement; None if no message does at all."""
        cursor = self.dispatch.cursor
        return cursor.mark_delete if cursor.outstanding else self.unread_after

    @property
    def oldest_open(self) -> int | None:
        """The oldest position that awaits an acknowledgement or, if none was read, the first to read.

        None if nothing awaits one. Positions of other topics that lie before the oldest message do not count.
        """
        if (first := self.dispatch.cursor.first_unacked) is not None:
            return first
        after = self.unread_after
        return None if after is None else after + 1

    def lag(self, offsets: LogOffsets) -> int:
        """Return a lower bound of the messages that are not acknowledged.

        Exact unless the subscription is behind the counted part of the log.
        """
        cursor, after = self.dispatch.cursor, self.unread_after
        unread = 0 if after is None else offsets.count_after(self.topic_id, after)
        return cursor.outstanding + max(unread - cursor.acked_unread(end_of_sequence(SEQUENCE_MAX)), 0)

    def offer_live(self, run: Run) -> None:
        """Take the live feed's next messages, or fall behind if there is no room for them."""
        if self.at_tail and self.dispatch.has_room:
            self.dispatch.offer(run)
            return
        sequence = sequence_of(run.first)
        self.fall_behind(sequence)
        self.missed.add(sequence, len(run), self.next_sequence)

    def offer_frame(self, sequence: int, frame: Frame, offsets: LogOffsets) -> None:
        """Take the topic's messages in a frame that was read below the tail."""
        for number, section in enumerate(frame.sections):
            if section.topic_id == self.topic_id:
                first = position_of(sequence, number, 0)
                self.dispatch.offer(section.run(first, offsets.of(self.topic_id, first)))

    def read_past(self, sequence: int) -> None:
        """Read on behind the frame ``sequence``, which was offered, and behind what is acknowledged there."""
        self.next_sequence = first_unread(self.dispatch.cursor.skip_acked(end_of_sequence(sequence)))

    def reach_tail(self) -> None:
        """Nothing is left to read below the tail: the live feed serves the subscription from now on."""
        self.at_tail = True
        self.missed.clear()

    def fall_behind(self, sequence: int) -> None:
        """Read on from ``sequence`` below the tail: the live feed passed these messages."""
        if self.at_tail:
            self.at_tail = False
            self.next_sequence = sequence

    def expire(self, position: int) -> None:
        """Pass every message up to ``position``, read or not: none is retained."""
        self.dispatch.expire(position)
        self._read_on_after(position)

    def skip(self, position: int) -> None:
        """Pass the unread messages up to ``position``, which are not retained; keep those that were read."""
        self.dispatch.cursor.skip_to(position)
        self._read_on_after(position)

    def _read_on_after(self, position: int) -> None:
        self.next_sequence = max(self.next_sequence, first_unread(position))
        self.read_block = None
        self.mark_dirty(self)

    def acknowledge(self, spans: Iterable[tuple[int, int]], log_end: int) -> None:
        """Acknowledge spans of adjacent positions; those beyond the log sequence ``log_end`` are ignored."""
        if self.dispatch.ack(spans, end_of_sequence(log_end)):
            self.mark_dirty(self)

    def nack(self, first: int, last: int, now: float, *, delay_ms: int, reason: str) -> None:
        """Take in that the delivery of messages failed, as far as they are in flight."""
        self.dispatch.nack(first, last, now, delay_ms=delay_ms, reason=reason)

    def resolve(self, position: int) -> None:
        """Acknowledge a message that was dropped or dead-lettered."""
        if self.dispatch.ack(((position, position),), position):
            self.mark_dirty(self)

    def change_policy(self, policy: FailurePolicy, now: float) -> None:
        """Apply another failure policy, which is journaled elsewhere."""
        self.poison_problem = ""
        self.dispatch.change_policy(policy, now)

    def move_with_log(self, sequence: int) -> None:
        """Move mark-delete with the log while the subscription is at the tail with nothing outstanding.

        After a restart the owner need not scan the log for such a subscription.
        """
        if self.at_tail and self.dispatch.cursor.skip_to(end_of_sequence(sequence)):
            self.mark_dirty(self)

    def moved(self) -> list[Event]:
        """Return how the cursor moved since the last call."""
        cursor, key = self.dispatch.cursor, self.key
        events: list[Event] = []
        if self.restarted:
            self.restarted = False
            events.append(CursorSet(*key, cursor.mark_delete, [], self.state.generation))
        moves = list(cursor_moves(*key, cursor.mark_delete, cursor.take_changes()))
        failed = failed_messages(*key, self.dispatch.retries.take_changes())
        return [*events, *(moves or [CursorMoved(*key, cursor.mark_delete, [])]), *failed]

    def stored(self) -> None:
        """Note that what `moved` returned is durable."""
        if self.dispatch.failures_stored():
            self.mark_ready(self)

    def restart(self, cursor: Cursor, tail: int) -> None:
        """Go on at ``cursor`` and forget every message in flight or waiting."""
        self.dispatch.start_over(cursor)
        self.restarted = True
        self.next_sequence = first_unread(cursor.mark_delete)
        self.at_tail = self.next_sequence > tail
        self.missed.clear()
        self.read_block = None
        self.mark_dirty(self)


def activate(
    topic: Topic,
    state: SubscriptionState,
    window: Window,
    *,
    now: float,
    tail: int,
    mark_dirty: Callable[[LogSubscription], None],
    mark_ready: Callable[[LogSubscription], None],
) -> ActiveSubscription:
    """Return an active subscription for a journaled one; ``tail`` is the last sequence of the live feed."""
    rate = TokenBucket(0, now)
    keyed = state.subscription_type is SubscriptionType.KEY_SHARED
    window = replace(window, prefetch=state.prefetch)
    subscription: ActiveSubscription
    if topic.strategy.is_reliable:
        cursor = Cursor(state.mark_delete, state.acked)
        policy, failures = state.failure_policy or DEFAULT_POLICY, dict(state.failures.items())
        dispatch = (
            KeySharedDispatch(cursor, window, policy, failures)
            if keyed
            else ReliableDispatch(state.subscription_type, cursor, window, policy, failures)
        )
        if state.max_unacked_messages:
            dispatch.unacked_max = state.max_unacked_messages
        start = first_unread(state.mark_delete)
        subscription = LogSubscription(
            topic.topic_id,
            topic.name,
            state,
            dispatch,
            rate,
            start,
            start > tail,
            mark_dirty=mark_dirty,
            mark_ready=mark_ready,
        )
    else:
        non_reliable = (
            KeySharedNonReliableDispatch() if keyed else NonReliableDispatch(state.subscription_type)
        )
        subscription = ActiveSubscription(topic.topic_id, topic.name, state, non_reliable, rate)
    for consumer_id, name in state.consumers.items():
        filters = state.key_filters.get(consumer_id, ())
        subscription.dispatch.add(consumer_id, name).key_filters = filters
    return subscription


def first_unread(mark_delete: int) -> int:
    """Return the log sequence to read from for a cursor at ``mark_delete``."""
    sequence = sequence_of(mark_delete)
    return sequence + 1 if mark_delete == end_of_sequence(sequence) else max(sequence, 1)
