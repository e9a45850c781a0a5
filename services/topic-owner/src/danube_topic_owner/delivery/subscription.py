"""A subscription at work: its dispatch, and for reliable topics its place in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from danube_common.cluster.records import Topic
from danube_common.model.position import end_of_sequence, position_of, sequence_of
from danube_common.model.rate_limit import TokenBucket
from danube_common.wire.frame import Frame, Section
from danube_topic_owner.delivery.dispatch import Dispatch, Message
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor
from danube_topic_owner.journal.events import CursorMoved
from danube_topic_owner.journal.state import SubscriptionState


@dataclass(slots=True)
class ActiveSubscription:
    """What both kinds have. ``losses_counted``: drops or redeliveries that the metrics know of."""

    topic_id: int
    topic: str
    state: SubscriptionState
    dispatch: Dispatch
    rate: TokenBucket
    losses_counted: int = field(default=0, kw_only=True)

    @property
    def key(self) -> tuple[int, str]:
        return self.topic_id, self.state.name


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
    """

    dispatch: ReliableDispatch
    next_sequence: int
    at_tail: bool = False
    read_block: ReadBlock | None = field(default=None, kw_only=True)
    mark_dirty: Callable[[LogSubscription], None] = field(kw_only=True)

    @property
    def wants_backlog(self) -> bool:
        return not self.at_tail and self.dispatch.has_room

    @property
    def unread_after(self) -> int | None:
        """Everything the topic has beyond this position is still to be read; None at the tail."""
        if self.at_tail:
            return None
        return max(self.dispatch.cursor.read_position, position_of(self.next_sequence, 0, 0) - 1)

    @property
    def open_after(self) -> int | None:
        """Nothing at or below this position is still to be acknowledged; None if nothing is at all."""
        cursor = self.dispatch.cursor
        return cursor.mark_delete if cursor.outstanding else self.unread_after

    def offer_live(self, sequence: int, section_number: int, section: Section) -> None:
        """The live feed's next messages of the topic; without room for them it falls behind."""
        if not self.at_tail:
            return
        if not self.dispatch.has_room:
            self.at_tail = False
            self.next_sequence = sequence
            return
        self.dispatch.offer(section_messages(sequence, section_number, section))

    def offer_frame(self, sequence: int, frame: Frame) -> None:
        for number, section in enumerate(frame.sections):
            if section.topic_id == self.topic_id:
                self.offer_section(sequence, number, section)

    def offer_section(self, sequence: int, number: int, section: Section) -> None:
        """The next messages of the topic, as they were read for a reader behind the tail."""
        self.dispatch.offer(section_messages(sequence, number, section))

    def reach_tail(self) -> None:
        self.at_tail = True

    def fall_behind(self, sequence: int) -> None:
        """The live feed has passed over what begins at ``sequence``: it is to be read."""
        if self.at_tail:
            self.at_tail = False
            self.next_sequence = sequence

    def expire(self, position: int) -> None:
        """Everything up to ``position`` is retained no longer."""
        self.dispatch.expire(position)
        self._go_on_behind(position)

    def skip(self, position: int) -> None:
        """What is unread up to ``position`` is retained no longer; what was read before stays as it is."""
        self.dispatch.cursor.skip_to(position)
        self._go_on_behind(position)

    def _go_on_behind(self, position: int) -> None:
        self.next_sequence = max(self.next_sequence, first_unread(position))
        self.read_block = None
        self.mark_dirty(self)

    def acknowledge(self, positions: list[int], log_end: int) -> None:
        """Take in acknowledged positions; those beyond the log sequence ``log_end`` are no messages."""
        if self.dispatch.ack(positions, end_of_sequence(log_end)):
            self.mark_dirty(self)

    def pass_over(self, sequence: int) -> None:
        """At the tail with nothing outstanding, mark-delete moves with the log: a restart need not scan."""
        if self.at_tail and self.dispatch.cursor.skip_to(end_of_sequence(sequence)):
            self.mark_dirty(self)

    def moved(self) -> CursorMoved:
        """Return the cursor as an event."""
        cursor = self.dispatch.cursor
        return CursorMoved(self.topic_id, self.state.name, cursor.mark_delete, cursor.acked_ranges())

    def restart(self, cursor: Cursor, tail: int) -> None:
        """Go on at ``cursor``: what was in flight or waiting is forgotten."""
        self.dispatch.start_over(cursor)
        self.next_sequence = first_unread(cursor.mark_delete)
        self.at_tail = self.next_sequence > tail
        self.read_block = None
        self.mark_dirty(self)


def activate(
    topic: Topic,
    state: SubscriptionState,
    window_messages: int,
    window_bytes: int,
    *,
    now: float,
    tail: int,
    mark_dirty: Callable[[LogSubscription], None],
) -> ActiveSubscription:
    """Return an active subscription for a journaled one; ``tail`` is the last sequence of the live feed."""
    rate = TokenBucket(0, now)
    subscription: ActiveSubscription
    if topic.strategy.is_reliable:
        dispatch = ReliableDispatch(
            state.subscription_type,
            Cursor(state.mark_delete, state.acked),
            window_messages=window_messages,
            window_bytes=window_bytes,
        )
        start = first_unread(state.mark_delete)
        subscription = LogSubscription(
            topic.topic_id,
            topic.name,
            state,
            dispatch,
            rate,
            start,
            at_tail=start > tail,
            mark_dirty=mark_dirty,
        )
    else:
        non_reliable = NonReliableDispatch(state.subscription_type)
        subscription = ActiveSubscription(topic.topic_id, topic.name, state, non_reliable, rate)
    for consumer_id, name in state.consumers.items():
        subscription.dispatch.add(consumer_id, name)
    return subscription


def first_unread(mark_delete: int) -> int:
    """The log sequence to read from for a cursor at ``mark_delete``."""
    sequence = sequence_of(mark_delete)
    return sequence + 1 if mark_delete == end_of_sequence(sequence) else max(sequence, 1)


def section_messages(sequence: int, number: int, section: Section) -> list[Message]:
    """The section's messages with their positions."""
    first = position_of(sequence, number, 0)
    return [(first + index, section.message(index)) for index in range(len(section))]
