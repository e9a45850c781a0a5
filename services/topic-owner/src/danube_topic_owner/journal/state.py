"""The journaled state of a bundle, rebuilt by applying the journal's events. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.position import BEFORE_ALL
from danube_common.model.producer import AccessMode
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal.cursor import Range, merge_range
from danube_topic_owner.journal.events import (
    Change,
    Claimed,
    ConsumerCreated,
    ConsumerRemoved,
    CursorMoved,
    CursorSet,
    DispatchConfigSet,
    Event,
    Fact,
    FailurePolicySet,
    GenerationReached,
    LogRestarted,
    LogSeen,
    LossesTold,
    MessagesCounted,
    MessagesFailed,
    MessagesLost,
    ProducerCreated,
    ProducerRemoved,
    ProducersStored,
    SnapshotBegan,
    SnapshotEnded,
    SnapshotTaken,
    SubscriptionCreated,
    SubscriptionRemoved,
    TopicRemoved,
    cursor_moves,
    failed_messages,
    messages_counted,
    producers_stored,
)
from danube_topic_owner.journal.failure_counts import FailureCounts


@dataclass(slots=True)
class ProducerState:
    """A producer of a topic."""

    producer_id: int
    name: str
    access_mode: AccessMode


@dataclass(slots=True)
class SubscriptionState:
    """A subscription as it was journaled last.

    Attributes:
        mark_delete: every message at or below this position is acknowledged.
        acked: acknowledged ranges beyond mark-delete.
        consumers: names of the consumers by id, connected or not.
        key_filters: of the consumers of a key-shared subscription that have any, by id.
        lost: messages that expired before they were acknowledged, over the subscription's life.
        prefetch: unacknowledged messages of a consumer that asks for no other number; 0 is the owner's bound.
        generation: changes when the cursor is reset or a subscription of the name is created again. An
            acknowledgement counts only for the generation in which its message was delivered.
        losses_told: of these, the ones that its consumers were told of.
        failure_policy: None is the default one.
        max_unacked_messages: of all its consumers together; 0 is the owner's bound.
        failures: failed deliveries of messages that are not acknowledged.
    """

    name: str
    subscription_type: SubscriptionType
    mark_delete: int
    acked: list[Range] = field(default_factory=list)
    consumers: dict[int, str] = field(default_factory=dict)
    key_filters: dict[int, tuple[str, ...]] = field(default_factory=dict)
    lost: int = 0
    losses_told: int = 0
    prefetch: int = 0
    generation: int = 0
    failure_policy: FailurePolicy | None = None
    max_unacked_messages: int = 0
    failures: FailureCounts = field(default_factory=FailureCounts)

    def move(self, mark_delete: int, acked: Iterable[Range]) -> None:
        """Apply how the cursor moved."""
        self.mark_delete = mark_delete
        for each in acked:
            merge_range(self.acked, each)
            if self.failures:
                self.failures.drop(each.first, each.last)
        if self.failures:
            self.failures.drop(BEFORE_ALL, mark_delete)
        del self.acked[: bisect_right(self.acked, mark_delete, key=lambda each: each.last)]

    def failed(self, failures: Iterable[tuple[int, int]]) -> None:
        """Note (position, failures) of messages, except of those that are acknowledged."""
        self.failures.set((position, count) for position, count in failures if not self._is_acked(position))

    def _is_acked(self, position: int) -> bool:
        at = bisect_left(self.acked, position, key=lambda each: each.last)
        return position <= self.mark_delete or (at < len(self.acked) and self.acked[at].first <= position)


@dataclass(slots=True)
class TopicState:
    """A topic that has or had a producer or a subscription.

    ``generation`` is the next subscription's: greater than that of any that was removed.
    """

    topic_id: int
    name: str
    generation: int = 0
    producers: dict[int, ProducerState] = field(default_factory=dict)
    subscriptions: dict[str, SubscriptionState] = field(default_factory=dict)

    def next_generation(self, subscription: SubscriptionState) -> int:
        """Return a generation for a subscription that starts over."""
        return max(self.generation, subscription.generation + 1)


class BundleState:
    """Topics with their producers, subscriptions, consumers and cursors, and indexes by id.

    Attributes:
        epoch: of the last claim.
        topics: by topic id.
        log_seen: the last frame that was read of a volatile log.
        sequences: of idempotent producers.
        counted_through: the last frame of the log that ``totals`` count.
        totals: messages published to each topic since it was created, by topic id.
        log_restarted_ms: when a volatile log began anew (ms since the epoch); 0 if it never did.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.topics: dict[int, TopicState] = {}
        self.log_seen = LogSeen(0, "")
        self.log_restarted_ms = 0
        self.sequences = ProducerSequences()
        self.counted_through = 0
        self.totals: dict[int, int] = {}
        self._counting: dict[int, int] = {}
        """Totals to which the sequence that they count up to is still to come."""
        self._snapshot: BundleState | None = None
        """What a snapshot that has begun, and has not ended yet, says so far."""
        self._producers: dict[int, tuple[TopicState, ProducerState]] = {}
        self._consumers: dict[int, tuple[TopicState, SubscriptionState]] = {}

    def producer(self, producer_id: int) -> tuple[TopicState, ProducerState] | None:
        """Return a producer with its topic; None if it does not exist."""
        return self._producers.get(producer_id)

    def consumer(self, consumer_id: int) -> tuple[TopicState, SubscriptionState] | None:
        """Return the topic and subscription of a consumer; None if it does not exist."""
        return self._consumers.get(consumer_id)

    def fold(self, events: Iterable[Event]) -> None:
        """Apply events in order."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Apply one event. A repeated event, or one about something that is removed, changes nothing."""
        match event:
            case Claimed(epoch, _):
                self._snapshot = None
                self.epoch = epoch
            case SnapshotBegan(epoch):
                self._snapshot = BundleState()
                self._snapshot.epoch = epoch
            case SnapshotEnded():
                if self._snapshot is not None:
                    vars(self).update(vars(self._snapshot))
            case SnapshotTaken(epoch, facts):
                self.fold([SnapshotBegan(epoch), *facts, SnapshotEnded()])
            case _ if self._snapshot is not None:
                self._snapshot.apply(event)
            case _:
                self._change(event)

    def _change(self, event: Change) -> None:
        match event:
            case CursorSet() | CursorMoved() | MessagesFailed():
                self._move_subscription(event)
            case MessagesLost() | LossesTold() | FailurePolicySet() | DispatchConfigSet():
                self._update_subscription(event)
            case ProducerCreated() | SubscriptionCreated() | ConsumerCreated():
                self._create(event)
            case ProducerRemoved(producer_id):
                if (found := self._producers.pop(producer_id, None)) is not None:
                    del found[0].producers[producer_id]
            case ConsumerRemoved(consumer_id):
                if (owner := self._consumers.pop(consumer_id, None)) is not None:
                    del owner[1].consumers[consumer_id]
                    owner[1].key_filters.pop(consumer_id, None)
            case SubscriptionRemoved(topic_id, name):
                self._remove_subscription(topic_id, name)
            case TopicRemoved(topic_id):
                self._remove_topic(topic_id)
            case GenerationReached(topic_id, topic_name, generation):
                topic = self._topic(topic_id, topic_name)
                topic.generation = max(topic.generation, generation)
            case LogSeen() | LogRestarted() | ProducersStored() | MessagesCounted():
                self._note_log(event)

    def snapshot(self) -> Iterator[Event]:
        """Yield the events that rebuild this state, whatever is before them."""
        yield SnapshotBegan(self.epoch)
        if self.log_restarted_ms:
            yield LogRestarted(self.log_restarted_ms)
        if self.log_seen.sequence:
            yield self.log_seen
        if self.sequences.through:
            yield from producers_stored(self.sequences.through, self.sequences.items())
        if self.totals:
            yield from messages_counted(self.counted_through, list(self.totals.items()))
        for topic in self.topics.values():
            yield from _facts_of(topic)
        yield SnapshotEnded()

    def subscription(self, topic_id: int, name: str) -> SubscriptionState | None:
        """Return a subscription; None if it does not exist."""
        topic = self.topics.get(topic_id)
        return topic.subscriptions.get(name) if topic else None

    def _topic(self, topic_id: int, name: str) -> TopicState:
        return self.topics.setdefault(topic_id, TopicState(topic_id, name))

    def _create(self, event: ProducerCreated | SubscriptionCreated | ConsumerCreated) -> None:
        match event:
            case ProducerCreated(topic_id, topic_name, producer_id, name, access_mode):
                topic = self._topic(topic_id, topic_name)
                producer = topic.producers[producer_id] = ProducerState(producer_id, name, access_mode)
                self._producers[producer_id] = (topic, producer)
            case SubscriptionCreated(topic_id, topic_name, name, kind, mark_delete, prefetch, generation):
                created = SubscriptionState(name, kind, mark_delete, prefetch=prefetch, generation=generation)
                self._topic(topic_id, topic_name).subscriptions.setdefault(name, created)
            case ConsumerCreated(topic_id, subscription_name, consumer_id, name, key_filters):
                if (subscription := self.subscription(topic_id, subscription_name)) is not None:
                    subscription.consumers[consumer_id] = name
                    subscription.key_filters.pop(consumer_id, None)
                    if key_filters:
                        subscription.key_filters[consumer_id] = key_filters
                    self._consumers[consumer_id] = (self.topics[topic_id], subscription)

    def _update_subscription(
        self, event: MessagesLost | LossesTold | FailurePolicySet | DispatchConfigSet
    ) -> None:
        subscription = self.subscription(event.topic_id, event.subscription)
        if subscription is None:
            return
        match event:
            case MessagesLost():
                subscription.lost = event.total
            case LossesTold():
                subscription.losses_told = event.total
            case FailurePolicySet():
                subscription.failure_policy = event.policy
            case DispatchConfigSet():
                subscription.max_unacked_messages = event.max_unacked_messages

    def _move_subscription(self, event: CursorSet | CursorMoved | MessagesFailed) -> None:
        subscription = self.subscription(event.topic_id, event.subscription)
        if subscription is None:
            return
        match event:
            case CursorSet():
                subscription.acked = []
                subscription.failures.clear()
                if event.generation is not None:
                    subscription.generation = event.generation
                subscription.move(event.mark_delete, (Range(a, b, b - a + 1) for a, b in event.acked))
            case CursorMoved():
                subscription.move(event.mark_delete, event.acked)
            case MessagesFailed():
                subscription.failed(event.failures)

    def _remove_subscription(self, topic_id: int, name: str) -> None:
        if (subscription := self.subscription(topic_id, name)) is not None:
            topic = self.topics[topic_id]
            topic.generation = topic.next_generation(subscription)
            del topic.subscriptions[name]
            for consumer_id in subscription.consumers:
                self._consumers.pop(consumer_id, None)

    def _remove_topic(self, topic_id: int) -> None:
        self.totals.pop(topic_id, None)
        if (topic := self.topics.get(topic_id)) is not None:
            for producer_id in topic.producers:
                self._producers.pop(producer_id, None)
            for name in list(topic.subscriptions):
                self._remove_subscription(topic_id, name)
            del self.topics[topic_id]

    def _note_log(self, event: LogSeen | LogRestarted | ProducersStored | MessagesCounted) -> None:
        match event:
            case LogSeen():
                self.log_seen = event
            case LogRestarted(at_ms):
                self._restart_log(at_ms)
            case ProducersStored(through, lasts):
                self.sequences.merge(lasts)
                self.sequences.through = max(self.sequences.through, through)
            case MessagesCounted(through, totals):
                self._counting.update(totals)
                if through is not None:
                    self.totals.update(self._counting)
                    self._counting.clear()
                    self.counted_through = through

    def _restart_log(self, at_ms: int) -> None:
        repeated, self.log_restarted_ms = at_ms == self.log_restarted_ms, at_ms
        self.log_seen = LogSeen(0, "")
        self.sequences.through = self.counted_through = 0
        for topic in self.topics.values():
            for subscription in topic.subscriptions.values():
                subscription.mark_delete, subscription.acked = BEFORE_ALL, []
                subscription.failures.clear()
                if not repeated:
                    subscription.generation = topic.next_generation(subscription)


def _facts_of(topic: TopicState) -> Iterator[Fact]:
    topic_id = topic.topic_id
    if topic.generation:
        yield GenerationReached(topic_id, topic.name, topic.generation)
    for producer in topic.producers.values():
        yield ProducerCreated(topic_id, topic.name, producer.producer_id, producer.name, producer.access_mode)
    for name, each in topic.subscriptions.items():
        yield SubscriptionCreated(
            topic_id,
            topic.name,
            name,
            each.subscription_type,
            each.mark_delete,
            each.prefetch,
            each.generation,
        )
        yield from cursor_moves(topic_id, name, each.mark_delete, each.acked)
        if each.failure_policy is not None:
            yield FailurePolicySet(topic_id, name, each.failure_policy)
        if each.max_unacked_messages:
            yield DispatchConfigSet(topic_id, name, each.max_unacked_messages)
        yield from failed_messages(topic_id, name, each.failures.items())
        if each.lost:
            yield MessagesLost(topic_id, name, each.lost)
        if each.losses_told:
            yield LossesTold(topic_id, name, each.losses_told)
        for consumer_id, consumer_name in each.consumers.items():
            filters = each.key_filters.get(consumer_id, ())
            yield ConsumerCreated(topic_id, name, consumer_id, consumer_name, filters)
