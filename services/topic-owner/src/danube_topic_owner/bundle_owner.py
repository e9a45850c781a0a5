"""One bundle at its owner: state, log, dispatch and deliveries put together."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.membership import INSTANCE_TTL_S
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, JournalFenced, NotFound
from danube_common.journal.port import StateJournal
from danube_common.log.port import BundleLog, LogBounds, LogEntry
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle, Family
from danube_common.model.names import TopicName
from danube_common.model.position import BEFORE_ALL
from danube_common.wire.frame import Frame, decode_frame
from danube_common.wire.owner import SessionEnded
from danube_topic_owner.api.consumer_admission import starting_mark
from danube_topic_owner.api.producers import Producers
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.catchup.expiry import first_retained
from danube_topic_owner.catchup.history_feed import LogExtent
from danube_topic_owner.catchup.log_catchup import LogCatchUp
from danube_topic_owner.catchup.start_position import StartPositions
from danube_topic_owner.delivery.dispatch import Superseded
from danube_topic_owner.delivery.dispatcher import Dispatcher
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.delivery.outbox import Outbox
from danube_topic_owner.delivery.subscription import (
    ActiveSubscription,
    LogSubscription,
    activate,
)
from danube_topic_owner.journal.cursor import Cursor
from danube_topic_owner.journal.events import (
    Claimed,
    Event,
    LogRestarted,
    LogSeen,
    TopicRemoved,
    decode_events,
)
from danube_topic_owner.journal.state import BundleState, SubscriptionState
from danube_topic_owner.journal.writer import JournalWriter
from danube_topic_owner.log_reader import LogReader
from danube_topic_owner.owner_metrics import OwnerMetrics

CLAIM_ATTEMPTS_MAX = 5
JOURNAL_LEASE_S = INSTANCE_TTL_S
"""So long the journal's last answer stands in for a registration that is in doubt (ADR 0006)."""
STOP_FLUSH_S = 3.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of what one consumer may have unacknowledged."""

    messages: int = 1000
    bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OwnerPorts:
    bus: Bus
    log: BundleLog
    journal: StateJournal
    metadata: MetadataStore


class BundleOwner:
    """Runs between `start` and `stop`; calls ``on_lost`` when another owner has taken over.

    ``registered`` tells whether the instance's place in the cluster is confirmed at this very moment.
    """

    def __init__(
        self,
        bundle: Bundle,
        epoch: int,
        instance_id: str,
        ports: OwnerPorts,
        catalogue: Catalogue,
        *,
        window: Window,
        metrics: OwnerMetrics,
        on_lost: Callable[[], None],
        registered: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle = bundle
        self.epoch = epoch
        self.catalogue = catalogue
        self.state = BundleState()
        self.clock = clock
        self.subscriptions: dict[int, dict[str, ActiveSubscription]] = defaultdict(dict)
        self.outbox = Outbox(ports.bus, epoch)
        self.reader = LogReader(
            ports.log,
            bundle,
            self._on_entry,
            self._on_log_restarted,
            on_missed=self._on_missed,
            on_floor=self._on_floor,
        )
        self.dispatcher = Dispatcher(
            self.outbox,
            catalogue.policies,
            clock=clock,
            metrics=metrics,
            on_backlog=self._wake_backlog,
            may_deliver=self.may_deliver,
        )
        self.past = ArchiveCatchUp(
            bundle,
            ports.bus,
            catalogue,
            readers=self.dispatcher.lagging,
            subscriptions=self._log_subscriptions,
            place=lambda: LogExtent(self.backlog.floor, self.reader.tail),
            served=self.dispatcher.mark_ready,
            on_log=self._wake_backlog,
            metrics=metrics,
        )
        self.backlog = LogCatchUp(
            ports.log,
            bundle,
            self.dispatcher.lagging,
            tail=lambda: self.reader.tail,
            served=self.dispatcher.mark_ready,
            on_below=self.past.wake,
        )
        self.metrics = metrics
        self.messages_taken = 0
        self.bytes_taken = 0
        self._instance_id = instance_id
        self._ports = ports
        self._window = window
        self._on_lost = on_lost
        self._registered = registered
        self.starts: StartPositions
        self._tasks: list[asyncio.Task[None]] = []
        self.producers = Producers(bundle, self.state, self.clock())
        self.writer: JournalWriter

    # Lifecycle

    async def start(self) -> None:
        """Take over the bundle: fence the journal, rebuild the state, follow the log.

        Raises JournalFenced when other owners keep winning, LogUnavailable, MetadataUnavailable.
        """
        await self._claim_journal()
        await self.past.open(self._ports.metadata, self.writer)
        self.starts = StartPositions(self.bundle, self._ports.log, self.past.cuts, self.past.history)
        seen = self.state.log_seen
        await self.reader.open(seen.sequence, seen.frame_id)
        self._note_log()
        for topic in await self._living_topics():
            for subscription in self.state.topics[topic.topic_id].subscriptions.values():
                self.activate(topic, subscription)
        self.spawn(self.reader.run(), "reader")
        self.spawn(self.backlog.run(), "backlog")
        self.spawn(self.outbox.run(), "outbox")
        for work, name in self.past.work():
            self.spawn(work, name)

    async def stop(self) -> None:
        """Journal what is known, then end. Safe after a failed start."""
        self.dispatcher.close()
        await self.reader.close()
        if hasattr(self, "writer"):
            self._pass_over_quiet()
            self.writer.stop()
            writing = [task for task in self._tasks if task.get_name().endswith(" journal")]
            await asyncio.wait(writing, timeout=STOP_FLUSH_S) if writing else None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.past.close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run ``work`` until `stop`; its failure gives the bundle up."""
        task = asyncio.create_task(work, name=f"{self.bundle} {name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("bundle_task_failed", bundle=str(self.bundle), task=task.get_name(), exc_info=error)
            self._on_lost()

    async def _claim_journal(self) -> None:
        await self._ports.journal.open()
        for _ in range(CLAIM_ATTEMPTS_MAX):
            self.state = BundleState()
            sequence = 0
            for record in await self._ports.journal.replay(self.bundle):
                self.state.fold(decode_events(record.data))
                sequence = record.sequence
            if self.state.epoch > self.epoch:
                # A claim that was paused must not fence the one that came after it.
                raise JournalFenced(f"bundle {self.bundle} was taken over in epoch {self.state.epoch}")
            self.producers = Producers(self.bundle, self.state, self.clock())
            self.writer = JournalWriter(
                self._ports.journal,
                self.bundle,
                self.state,
                sequence=sequence,
                on_fenced=self._on_fenced,
                beside_cursors=self._log_seen,
                before_snapshot=self._pass_over_quiet,
                in_doubt=lambda: not self._registered(),
                on_confirmed=self.dispatcher.resume,
                clock=self.clock,
            )
            self.writer.record(Claimed(self.epoch, self._instance_id))
            self.spawn(self.writer.run(), "journal")
            try:
                await self.writer.flushed()
            except JournalFenced:
                continue
            return
        raise JournalFenced(f"bundle {self.bundle} is being written by another owner")

    def may_deliver(self) -> bool:
        """Whether the bundle is this owner's, as far as can be known at this moment.

        The registration tells, while the metadata store confirms it in time; when it does not, nobody can
        claim anything there, and the journal tells. After a pause neither does, until one of them answers.
        """
        return self._registered() or self.clock() < self.writer.confirmed_at + JOURNAL_LEASE_S

    def _on_fenced(self) -> None:
        self.metrics.fenced.labels(self.metrics.broker).inc()
        self._on_lost()

    async def _living_topics(self) -> list[Topic]:
        """The journaled topics that exist; the others were deleted while nobody owned the bundle."""
        living: list[Topic] = []
        for known in list(self.state.topics.values()):
            topic = self.catalogue.topic_by_id(known.topic_id)
            if topic is None:
                topic = await self.catalogue.find_topic(TopicName.parse(known.name))
            if topic is not None and topic.topic_id == known.topic_id:
                living.append(topic)
            else:
                self.writer.record(TopicRemoved(known.topic_id))
        return living

    # Subscriptions

    async def find_topic(self, name: str) -> Topic:
        """A topic of this bundle. Raises NotFound."""
        topic = await self.catalogue.find_topic(TopicName.parse(name))
        if topic is None or topic.home != self.bundle:
            raise NotFound(f"topic {name} does not exist")
        return topic

    async def log_bounds(self) -> LogBounds:
        """Raises LogUnavailable."""
        return await self._ports.log.bounds(self.bundle)

    def earliest(self, topic: Topic) -> int:
        """The mark-delete of a subscription that begins with the oldest message that is retained."""
        oldest, cuts, floor = starting_mark(topic, self.state), self.past.cuts, self.backlog.floor
        if not topic.strategy.is_reliable:
            return oldest
        # What was purged and is not in this view of the catalogue yet may well be retained.
        return first_retained(cuts, topic, oldest, min(floor, cuts.archived_through + 1) if cuts else floor)

    def activate(self, topic: Topic, state: SubscriptionState) -> ActiveSubscription:
        """Put a journaled subscription to work; idempotent."""
        known = self.subscriptions[topic.topic_id].get(state.name)
        if known is not None:
            return known
        window = self._window
        subscription = activate(
            topic,
            state,
            window.messages,
            window.bytes,
            now=self.clock(),
            tail=self.reader.tail,
            mark_dirty=self.writer.mark_dirty,
        )
        for consumer_id, name in state.consumers.items():
            subscription.dispatch.add(consumer_id, name)
        self.subscriptions[topic.topic_id][state.name] = subscription
        return subscription

    def _log_subscriptions(self, topic_id: int | None = None) -> list[LogSubscription]:
        """The reliable ones of a topic, or of the bundle."""
        topics = self.subscriptions.values() if topic_id is None else [self.subscriptions.get(topic_id, {})]
        return [each for topic in topics for each in topic.values() if isinstance(each, LogSubscription)]

    def subscription_of(self, consumer_id: int) -> ActiveSubscription | None:
        found = self.state.consumer(consumer_id)
        if found is None:
            return None
        topic, subscription = found
        return self.subscriptions[topic.topic_id].get(subscription.name)

    def drop_topic(self, topic: Topic) -> None:
        """The topic was deleted: end its streams, forget its state."""
        for subscription in self.subscriptions.pop(topic.topic_id, {}).values():
            self.end_sessions(subscription, f"topic {topic.name} was deleted")
        if (known := self.state.topics.get(topic.topic_id)) is not None:
            self.producers.forget(list(known.producers))
            self.writer.record(TopicRemoved(topic.topic_id))
        self.dispatcher.forget_topic(topic.topic_id)

    def reset(self, subscription: LogSubscription, mark_delete: int) -> None:
        """Move its cursor, also back. Its streams end: what is on the way to its consumers is not theirs."""
        consumers = [(each.consumer_id, each.session) for each in subscription.dispatch.attached]
        self.end_sessions(subscription, "the subscription was reset")
        for consumer_id, session in consumers:
            if session is not None:
                subscription.dispatch.detach(consumer_id, session.session)
        subscription.restart(Cursor(mark_delete), self.reader.tail)
        self.dispatcher.mark_ready(subscription)

    def drop_subscription(self, subscription: ActiveSubscription) -> None:
        """It was deleted: nothing is read or journaled for it any more."""
        self.end_sessions(subscription, "the subscription was deleted")
        del self.subscriptions[subscription.topic_id][subscription.state.name]

    def end_sessions(self, subscription: ActiveSubscription, reason: str) -> None:
        for consumer in list(subscription.dispatch.attached):
            session = consumer.session
            if session is not None:
                self.tell_superseded(
                    Superseded(session.gateway, consumer.consumer_id, session.session), reason
                )
        self.dispatcher.forget(subscription)
        self.writer.forget(subscription.key)
        self.past.forget(subscription.key)

    def tell_superseded(self, ended: Superseded, reason: str) -> None:
        self.outbox.notice(ended.gateway, SessionEnded(self.epoch, ended.consumer_id, ended.session, reason))

    # Messages

    def _on_entry(self, entry: LogEntry) -> None:
        self._note_log()
        try:
            frame = decode_frame(entry.frame)
        except CorruptData as error:
            _log.error("corrupt_frame_skipped", sequence=entry.sequence, error=str(error))
            return
        self._count(frame)
        for number, section in enumerate(frame.sections):
            for subscription in self.subscriptions.get(section.topic_id, {}).values():
                if isinstance(subscription, LogSubscription):
                    subscription.offer_live(entry.sequence, number, section)
                    self.dispatcher.mark_ready(subscription)

    def on_fast_frame(self, data: bytes) -> None:
        """Non-reliable messages from a gateway."""
        try:
            frame = decode_frame(data)
        except CorruptData as error:
            _log.error("corrupt_frame_dropped", error=str(error))
            return
        self._count(frame)
        for section in frame.sections:
            messages = [(BEFORE_ALL, section.message(index)) for index in range(len(section))]
            for subscription in self.subscriptions.get(section.topic_id, {}).values():
                if isinstance(subscription.dispatch, NonReliableDispatch):
                    subscription.dispatch.offer(messages)
                    self.dispatcher.mark_ready(subscription)

    def _count(self, frame: Frame) -> None:
        for section in frame.sections:
            self.messages_taken += len(section)
            self.bytes_taken += len(section.messages)

    def _wake_backlog(self) -> None:
        self.backlog.wake()

    # Journal

    def _log_seen(self) -> list[Event]:
        """Cursors in a memory log are worth something as long as the log is the same one."""
        if self.bundle.family is Family.FILE:
            return []
        return [LogSeen(self.reader.tail, self.reader.tail_frame_id)]

    def _pass_over_quiet(self) -> None:
        """Cursors with nothing outstanding move with the log: the next owner need not scan for them."""
        for subscription in self._log_subscriptions():
            subscription.pass_over(self.reader.tail)

    def _note_log(self) -> None:
        """Journal one frame of a volatile log: without it, its successor could not be told from it."""
        if self.reader.tail_frame_id and not self.state.log_seen.sequence:
            self.writer.record(LogSeen(self.reader.tail, self.reader.tail_frame_id))

    def _on_log_restarted(self) -> None:
        self.writer.record(LogRestarted(time.time_ns() // 1_000_000))
        self.backlog.floor = 1
        for subscription in self._log_subscriptions():
            subscription.restart(Cursor(BEFORE_ALL), self.reader.tail)
            self.dispatcher.mark_ready(subscription)

    def _on_missed(self, sequence: int) -> None:
        """The log was purged under a live feed that was behind: who was at the tail reads that now."""
        for subscription in self._log_subscriptions():
            subscription.fall_behind(sequence)
            self.dispatcher.mark_ready(subscription)

    def _on_floor(self, floor: int) -> None:
        if floor != self.backlog.floor:
            self.backlog.floor = floor
            if self.bundle.family is Family.MEMORY:
                self.past.check()
