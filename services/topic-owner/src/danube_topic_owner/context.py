"""State and tools that all parts of one bundle's owner share."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.membership import INSTANCE_TTL_S
from danube_common.cluster.records import Topic
from danube_common.errors import NotFound
from danube_common.model.bundle import Bundle, Family
from danube_common.model.names import TopicName
from danube_common.runtime.ports import Ports
from danube_common.wire.owner.notices import SessionEnded
from danube_common.wire.owner.protocol import OwnerRequest
from danube_topic_owner.delivery.consumer import Session, Window
from danube_topic_owner.delivery.dispatcher import Dispatcher
from danube_topic_owner.delivery.log_offsets import LogOffsets
from danube_topic_owner.delivery.outbox import Outbox
from danube_topic_owner.delivery.stored_times import StoredTimes
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription, activate
from danube_topic_owner.delivery.traces import DeliveryTraces
from danube_topic_owner.journal.claim import JournalClaim
from danube_topic_owner.journal.cursor import Cursor
from danube_topic_owner.journal.events import Event, LogSeen, TopicRemoved
from danube_topic_owner.journal.state import SubscriptionState
from danube_topic_owner.journal.writer import JournalWriter
from danube_topic_owner.log_reader import LogExtent
from danube_topic_owner.owner_metrics import OwnerMetrics
from danube_topic_owner.poison import Poison

Handlers = dict[type[OwnerRequest], Callable[[Any], Awaitable[msgspec.Struct]]]
"""The handler of each request type."""
JOURNAL_LEASE_S = INSTANCE_TTL_S
"""While the registration is in doubt, the journal's last answer allows deliveries this long.

See docs/adr/0006-a-metadata-outage-is-not-a-lost-lease.md."""


class OwnerContext:
    """One bundle whose journal this instance has claimed: its state, active subscriptions and dispatch.

    Args:
        bundle: the bundle.
        claim: its journal as it was taken over.
        ports: bus, log, journal and metadata store.
        catalogue: topics, policies and instances of the cluster.
        window: bounds of the unacknowledged messages of one consumer.
        metrics: of this process.
        on_lost: called when the bundle must be given up: another owner has written, or a task failed.
        registered: whether the metadata store confirms this instance's registration at this moment.
        clock: monotonic seconds.

    Attributes:
        state: what the journal holds, with the events that are recorded and not written yet.
        stored_times: when frames of the log were stored.
        offsets: of the messages in the log, as far as they are counted.
        extent: the first and last sequence of the log, as far as known.
        traces: of the messages that are delivered.
        poison: drops or dead-letters messages that failed too often.
        subscriptions: active subscriptions by topic id and name.
        catch_up_wanted: set when a subscription may want messages that are in the log below the tail.
    """

    def __init__(
        self,
        bundle: Bundle,
        claim: JournalClaim,
        ports: Ports,
        catalogue: Catalogue,
        *,
        window: Window,
        metrics: OwnerMetrics,
        on_lost: Callable[[], None],
        registered: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle = bundle
        self.epoch = claim.state.epoch
        self.ports = ports
        self.catalogue = catalogue
        self.window = window
        self.metrics = metrics
        self.on_lost = on_lost
        self.clock = clock
        self.state = claim.state
        self.extent = LogExtent()
        self.stored_times = StoredTimes()
        self.offsets = LogOffsets()
        self.subscriptions: dict[int, dict[str, ActiveSubscription]] = defaultdict(dict)
        self.catch_up_wanted = asyncio.Event()
        self.traces = DeliveryTraces(bundle, ports.tracer)
        self.outbox = Outbox(ports.bus, self.epoch, self.traces)
        self.poison = Poison(
            ports,
            catalogue,
            metrics,
            on_resolved=self._resolved,
            may_publish=self.may_deliver,
        )
        self.dispatcher = Dispatcher(
            self.outbox,
            catalogue.policies,
            clock=clock,
            metrics=metrics,
            on_lagging=self.catch_up_wanted.set,
            on_poison=self.poison.add,
            may_deliver=self.may_deliver,
        )
        self.writer = JournalWriter(
            ports.journal,
            bundle,
            claim,
            on_fenced=self._fenced,
            beside_cursors=self._log_seen,
            before_snapshot=self.move_quiet_cursors,
            in_doubt=lambda: not registered(),
            on_confirmed=self.dispatcher.resume,
            clock=clock,
        )
        self._registered = registered

    def may_deliver(self) -> bool:
        """Return whether this instance still owns the bundle, as far as it can know at this moment.

        While the metadata store confirms the registration, the registration tells. When the store does not
        answer, nobody can claim a bundle there, and the journal tells. After a pause neither tells until one
        of them answers.
        """
        return self._registered() or self.clock() < self.writer.confirmed_at + JOURNAL_LEASE_S

    # Topics and subscriptions

    async def find_topic(self, name: str) -> Topic:
        """Return a topic of this bundle. Raises NotFound."""
        topic = await self.catalogue.find_topic(TopicName.parse(name))
        if topic is None or topic.home != self.bundle:
            raise NotFound(f"topic {name} does not exist")
        return topic

    def log_subscriptions(self, topic_id: int | None = None) -> list[LogSubscription]:
        """Return the reliable subscriptions of a topic, or of the whole bundle."""
        topics = self.subscriptions.values() if topic_id is None else [self.subscriptions.get(topic_id, {})]
        return [each for topic in topics for each in topic.values() if isinstance(each, LogSubscription)]

    def subscription_of(self, consumer_id: int) -> ActiveSubscription | None:
        """Return the subscription that a consumer belongs to; None if the consumer does not exist."""
        if (found := self.state.consumer(consumer_id)) is None:
            return None
        topic, subscription = found
        return self.subscriptions[topic.topic_id].get(subscription.name)

    def activate(self, topic: Topic, state: SubscriptionState) -> ActiveSubscription:
        """Start to serve a journaled subscription; idempotent."""
        known = self.subscriptions[topic.topic_id].get(state.name)
        if known is not None:
            return known
        subscription = activate(
            topic,
            state,
            self.window,
            now=self.clock(),
            tail=self.extent.tail,
            mark_dirty=self.writer.mark_dirty,
            mark_ready=self.dispatcher.mark_ready,
        )
        self.subscriptions[topic.topic_id][state.name] = subscription
        return subscription

    def drop_topic(self, topic: Topic) -> None:
        """End the streams of a deleted topic and forget its state."""
        for subscription in self.subscriptions.pop(topic.topic_id, {}).values():
            self._end_sessions(subscription, f"topic {topic.name} was deleted")
        self.offsets.forget_topic(topic.topic_id)
        if topic.topic_id in self.state.topics or topic.topic_id in self.state.totals:
            self.writer.record(TopicRemoved(topic.topic_id))
        self.dispatcher.forget_topic(topic.topic_id)

    def drop_subscription(self, subscription: ActiveSubscription) -> None:
        """End the streams of a deleted subscription and stop to serve it."""
        self._end_sessions(subscription, "the subscription was deleted")
        del self.subscriptions[subscription.topic_id][subscription.state.name]

    def reset(self, subscription: LogSubscription, mark_delete: int) -> None:
        """Move a cursor, forward or back.

        The subscription's streams end, because messages on their way to consumers belong to the old cursor.
        """
        self._end_sessions(subscription, "the subscription was reset")
        topic = self.state.topics[subscription.topic_id]
        subscription.state.generation = topic.next_generation(subscription.state)
        subscription.restart(Cursor(mark_delete), self.extent.tail)
        self.dispatcher.mark_ready(subscription)

    def notify_session_ended(
        self, consumer_id: int, session: Session, reason: str, *, taken_over: bool = False
    ) -> None:
        """Tell the gateway of a session that the owner has ended the session."""
        notice = SessionEnded(self.epoch, consumer_id, session.session, reason, taken_over)
        self.outbox.notice(session.gateway, notice)

    def _end_sessions(self, subscription: ActiveSubscription, reason: str) -> None:
        for consumer in list(subscription.dispatch.attached):
            if (session := consumer.session) is not None:
                self.notify_session_ended(consumer.consumer_id, session, reason)
                subscription.dispatch.detach(consumer.consumer_id, session.session)
        self.dispatcher.forget(subscription)
        self.writer.forget(subscription.key)

    def _resolved(self, subscription: LogSubscription) -> None:
        """There is room for other messages."""
        self.dispatcher.mark_ready(subscription)

    # Journal

    def move_quiet_cursors(self) -> None:
        """Move cursors with nothing outstanding to the log's tail: the next owner need not scan for them."""
        for subscription in self.log_subscriptions():
            subscription.move_with_log(self.extent.tail)

    def _log_seen(self) -> list[Event]:
        """Cursors in a memory log are valid only as long as the log is the same one."""
        if self.bundle.family is Family.FILE:
            return []
        return [LogSeen(self.extent.tail, self.extent.tail_frame_id)]

    def _fenced(self) -> None:
        self.metrics.fenced.labels(self.metrics.broker).inc()
        self.on_lost()
