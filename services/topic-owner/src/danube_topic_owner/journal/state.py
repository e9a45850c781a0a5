"""What an owner knows of its bundle: the fold of the journal's events (architecture D7). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from danube_common.model.position import BEFORE_ALL
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal.cursor import Range
from danube_topic_owner.journal.events import (
    Claimed,
    ConsumerCreated,
    ConsumerRemoved,
    CursorMoved,
    Event,
    Fact,
    LogRestarted,
    LogSeen,
    MessagesLost,
    ProducerCreated,
    ProducerRemoved,
    SnapshotTaken,
    SubscriptionCreated,
    SubscriptionRemoved,
    TopicRemoved,
)


@dataclass(slots=True)
class ProducerState:
    producer_id: int
    name: str
    access_mode: AccessMode


@dataclass(slots=True)
class SubscriptionState:
    name: str
    subscription_type: SubscriptionType
    mark_delete: int
    acked: list[Range] = field(default_factory=list)
    consumers: dict[int, str] = field(default_factory=dict)
    lost: int = 0


@dataclass(slots=True)
class TopicState:
    topic_id: int
    name: str
    producers: dict[int, ProducerState] = field(default_factory=dict)
    subscriptions: dict[str, SubscriptionState] = field(default_factory=dict)


class BundleState:
    """Topics with their producers, subscriptions, consumers and cursors, and indexes by id."""

    def __init__(self) -> None:
        self._reset(0)

    def _reset(self, epoch: int) -> None:
        self.epoch = epoch
        self.topics: dict[int, TopicState] = {}
        self.log_seen = LogSeen(0, "")
        self.log_restarted_ms = 0
        self._producers: dict[int, tuple[TopicState, ProducerState]] = {}
        self._consumers: dict[int, tuple[TopicState, SubscriptionState]] = {}

    def producer(self, producer_id: int) -> tuple[TopicState, ProducerState] | None:
        return self._producers.get(producer_id)

    def consumer(self, consumer_id: int) -> tuple[TopicState, SubscriptionState] | None:
        return self._consumers.get(consumer_id)

    def topic(self, topic_id: int, name: str) -> TopicState:
        """The topic's state, made when it is first spoken of."""
        return self.topics.setdefault(topic_id, TopicState(topic_id, name))

    def fold(self, events: Iterable[Event]) -> None:
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event. Repeating an event, or one about something removed since, changes nothing."""
        match event:
            case CursorMoved() | MessagesLost():
                self._told_of_subscription(event)
            case ProducerCreated() | SubscriptionCreated() | ConsumerCreated():
                self._created(event)
            case ProducerRemoved(producer_id):
                if (found := self._producers.pop(producer_id, None)) is not None:
                    del found[0].producers[producer_id]
            case ConsumerRemoved(consumer_id):
                if (owner := self._consumers.pop(consumer_id, None)) is not None:
                    del owner[1].consumers[consumer_id]
            case SubscriptionRemoved(topic_id, name):
                self._subscription_removed(topic_id, name)
            case TopicRemoved(topic_id):
                self._topic_removed(topic_id)
            case Claimed(epoch, _):
                self.epoch = epoch
            case LogSeen():
                self.log_seen = event
            case LogRestarted(at_ms):
                self._log_restarted(at_ms)
            case SnapshotTaken(epoch, facts):
                self._reset(epoch)
                self.fold(facts)

    def snapshot(self) -> SnapshotTaken:
        """The event that rebuilds this state from nothing."""
        facts: list[Fact] = []
        if self.log_restarted_ms:
            facts.append(LogRestarted(self.log_restarted_ms))
        if self.log_seen.sequence:
            facts.append(self.log_seen)
        for topic in self.topics.values():
            facts.extend(
                ProducerCreated(topic.topic_id, topic.name, each.producer_id, each.name, each.access_mode)
                for each in topic.producers.values()
            )
            for subscription in topic.subscriptions.values():
                facts.append(
                    SubscriptionCreated(
                        topic.topic_id,
                        topic.name,
                        subscription.name,
                        subscription.subscription_type,
                        subscription.mark_delete,
                    )
                )
                if subscription.acked:
                    facts.append(
                        CursorMoved(
                            topic.topic_id, subscription.name, subscription.mark_delete, subscription.acked
                        )
                    )
                if subscription.lost:
                    facts.append(MessagesLost(topic.topic_id, subscription.name, subscription.lost))
                facts.extend(
                    ConsumerCreated(topic.topic_id, subscription.name, consumer_id, name)
                    for consumer_id, name in subscription.consumers.items()
                )
        return SnapshotTaken(self.epoch, facts)

    def _created(self, event: ProducerCreated | SubscriptionCreated | ConsumerCreated) -> None:
        match event:
            case ProducerCreated(topic_id, topic_name, producer_id, name, access_mode):
                topic = self.topic(topic_id, topic_name)
                producer = ProducerState(producer_id, name, access_mode)
                topic.producers[producer_id] = producer
                self._producers[producer_id] = (topic, producer)
            case SubscriptionCreated(topic_id, topic_name, name, subscription_type, mark_delete):
                topic = self.topic(topic_id, topic_name)
                topic.subscriptions.setdefault(name, SubscriptionState(name, subscription_type, mark_delete))
            case ConsumerCreated(topic_id, subscription_name, consumer_id, name):
                known = self.topics.get(topic_id)
                subscription = known.subscriptions.get(subscription_name) if known else None
                if known is not None and subscription is not None:
                    subscription.consumers[consumer_id] = name
                    self._consumers[consumer_id] = (known, subscription)

    def _told_of_subscription(self, event: CursorMoved | MessagesLost) -> None:
        topic = self.topics.get(event.topic_id)
        subscription = topic.subscriptions.get(event.subscription) if topic else None
        if subscription is None:
            return
        if isinstance(event, MessagesLost):
            subscription.lost = event.total
        else:
            subscription.mark_delete = event.mark_delete
            subscription.acked = event.acked

    def _subscription_removed(self, topic_id: int, name: str) -> None:
        topic = self.topics.get(topic_id)
        subscription = topic.subscriptions.pop(name, None) if topic else None
        if subscription is not None:
            for consumer_id in subscription.consumers:
                self._consumers.pop(consumer_id, None)

    def _topic_removed(self, topic_id: int) -> None:
        topic = self.topics.pop(topic_id, None)
        if topic is None:
            return
        for producer_id in topic.producers:
            self._producers.pop(producer_id, None)
        for subscription in topic.subscriptions.values():
            for consumer_id in subscription.consumers:
                self._consumers.pop(consumer_id, None)

    def _log_restarted(self, at_ms: int) -> None:
        self.log_restarted_ms = at_ms
        self.log_seen = LogSeen(0, "")
        for topic in self.topics.values():
            for subscription in topic.subscriptions.values():
                subscription.mark_delete = BEFORE_ALL
                subscription.acked = []
