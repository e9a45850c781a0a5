"""Serves one bundle: follows its log, answers requests about it, and delivers its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Self

import msgspec
import structlog

from danube_common.bus.port import Subscription
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, Unavailable
from danube_common.log.port import LogEntry
from danube_common.model.bundle import Family
from danube_common.model.names import TopicName
from danube_common.model.position import BEFORE_ALL, position_of
from danube_common.wire.frame import Frame, decode_frame
from danube_common.wire.owner.protocol import (
    OWNER,
    OwnerRequest,
    non_reliable_subject,
    owner_subject,
)
from danube_topic_owner.api.requests import Requests
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.catchup.log_catchup import LogCatchUp
from danube_topic_owner.catchup.sequence_fold import SequenceFold
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.journal.cursor import Cursor
from danube_topic_owner.journal.events import LogRestarted, LogSeen, TopicRemoved
from danube_topic_owner.log_reader import LogReader

STOP_FLUSH_S = 3.0

_log = structlog.get_logger(__name__)


class BundleOwner:
    """The owner of one bundle in one epoch, between `start` and `stop`.

    Attributes:
        messages_in: messages received from the log and, for non-reliable topics, from gateways.
        bytes_in: likewise in bytes.
    """

    def __init__(self, context: OwnerContext, archive_catchup: ArchiveCatchUp) -> None:
        self.context = context
        self.archive_catchup = archive_catchup
        self.log_catchup = LogCatchUp(context, archive_catchup.offset_fold, on_below=archive_catchup.wake)
        self.reader = LogReader(
            context.ports.log,
            context.bundle,
            context.extent,
            self._on_entry,
            self._on_log_restarted,
            on_missed=self._on_missed,
            on_floor=self._on_floor,
        )
        self.sequences = SequenceFold(context, self.reader.check)
        self.requests = Requests(context, archive_catchup, self.sequences)
        self.messages_in = 0
        self.bytes_in = 0
        self._listeners: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._journal: asyncio.Task[None] | None = None
        self._stopping = False

    @classmethod
    async def open(cls, context: OwnerContext) -> Self:
        """Return an owner that does not serve yet. Raises MetadataUnavailable."""
        return cls(context, await ArchiveCatchUp.open(context))

    async def start(self) -> None:
        """Follow the log, activate the journaled subscriptions, then take requests.

        Raises LogUnavailable, MetadataUnavailable, BusUnavailable; `stop` is safe after that.
        """
        context, bundle = self.context, self.context.bundle
        self._journal = self._spawn(context.writer.run(), "journal")
        seen = context.state.log_seen
        await self.reader.open(seen.sequence, seen.frame_id)
        self._note_log()
        await self.archive_catchup.offset_fold.catch_up()
        for topic in await self._living_topics():
            for subscription in context.state.topics[topic.topic_id].subscriptions.values():
                context.activate(topic, subscription)
        self._spawn(self.reader.run(), "reader")
        self._spawn(self.log_catchup.run(), "log catch-up")
        self._spawn(self.sequences.run(), "sequences")
        self._spawn(context.outbox.run(), "outbox")
        self._spawn(context.poison.run(), "poison")
        self._spawn(self.requests.sessions.run(), "sessions")
        for work, name in self.archive_catchup.work():
            self._spawn(work, name)
        bus = context.ports.bus
        self._listeners.append(await bus.subscribe(non_reliable_subject(bundle), self._on_non_reliable_frame))
        subject = owner_subject(bundle, context.epoch)
        self._listeners.append(await bus.serve(subject, OWNER.handler(self._answer)))

    async def stop(self) -> None:
        """Take no more requests, journal cursors and counts, then end. Safe after a failed start."""
        self._stopping = True
        for listener in self._listeners:
            await listener.close()
        self.context.dispatcher.close()
        await self.reader.close()
        self.context.move_quiet_cursors()
        self.archive_catchup.offset_fold.checkpoint()
        self.sequences.checkpoint()
        self.context.writer.stop()
        if self._journal is not None:
            await asyncio.wait((self._journal,), timeout=STOP_FLUSH_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.archive_catchup.close()

    def drop_topic(self, topic: Topic) -> None:
        """End the streams of a deleted topic and forget its state."""
        self.requests.producers.forget_topic(topic.topic_id)
        self.context.drop_topic(topic)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` until `stop`; its failure gives the bundle up."""
        task = asyncio.create_task(work, name=f"{self.context.bundle} {name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            bundle = str(self.context.bundle)
            _log.error("bundle_task_failed", bundle=bundle, task=task.get_name(), exc_info=error)
            self.context.on_lost()

    async def _answer(self, request: OwnerRequest) -> msgspec.Struct:
        if self._stopping:
            raise Unavailable("the bundle is changing its owner")
        return await self.requests.answer(request)

    async def _living_topics(self) -> list[Topic]:
        """Return the journaled topics that exist; the others were deleted while the bundle had no owner."""
        catalogue = self.context.catalogue
        living: list[Topic] = []
        for known in list(self.context.state.topics.values()):
            topic = catalogue.topic_by_id(known.topic_id)
            if topic is None:
                topic = await catalogue.find_topic(TopicName.parse(known.name))
            if topic is not None and topic.topic_id == known.topic_id:
                living.append(topic)
            else:
                self.context.writer.record(TopicRemoved(known.topic_id))
        return living

    # Messages

    def _on_entry(self, entry: LogEntry) -> None:
        context = self.context
        self._note_log()
        self.archive_catchup.offset_fold.note(entry)
        try:
            frame = decode_frame(entry.frame)
        except CorruptData as error:
            _log.error("corrupt_frame_skipped", sequence=entry.sequence, error=str(error))
            return
        self._count(frame)
        if (batch := frame.producer_batch) is not None:
            self.sequences.note(batch)
        context.stored_times.add(entry.sequence, entry.stored_ms)
        if entry.traces:
            context.traces.note(entry.sequence, entry.traces)
        for number, section in enumerate(frame.sections):
            subscriptions = context.log_subscriptions(section.topic_id)
            if not subscriptions:
                continue
            first = position_of(entry.sequence, number, 0)
            run = section.run(first, context.offsets.of(section.topic_id, first))
            for subscription in subscriptions:
                subscription.offer_live(run)
                context.dispatcher.mark_ready(subscription)

    def _on_non_reliable_frame(self, data: bytes) -> None:
        try:
            frame = decode_frame(data)
        except CorruptData as error:
            _log.error("corrupt_frame_dropped", error=str(error))
            return
        self._count(frame)
        for section in frame.sections:
            run = section.run(BEFORE_ALL)
            for subscription in self.context.subscriptions.get(section.topic_id, {}).values():
                if isinstance(subscription.dispatch, NonReliableDispatch):
                    subscription.dispatch.offer(run)
                    self.context.dispatcher.mark_ready(subscription)

    def _count(self, frame: Frame) -> None:
        for section in frame.sections:
            self.messages_in += len(section)
            self.bytes_in += len(section.messages)

    # Log

    def _note_log(self) -> None:
        """Journal one frame of a volatile log, by which the next owner recognises the log."""
        extent = self.context.extent
        if extent.tail_frame_id and not self.context.state.log_seen.sequence:
            self.context.writer.record(LogSeen(extent.tail, extent.tail_frame_id))

    def _on_log_restarted(self) -> None:
        self.context.stored_times.clear()
        self.context.offsets.start(0, self.context.offsets.totals)
        self.context.writer.record(LogRestarted(time.time_ns() // 1_000_000))
        for subscription in self.context.log_subscriptions():
            subscription.restart(Cursor(BEFORE_ALL), self.context.extent.tail)
            self.context.dispatcher.mark_ready(subscription)

    def _on_missed(self, sequence: int) -> None:
        """The log was purged beyond the live feed: subscriptions at the tail read on from ``sequence``."""
        self.sequences.missed()
        if self.context.bundle.family is Family.FILE:
            self.context.offsets.complete = False  # the archive counted them: the next owner begins with it
        for subscription in self.context.log_subscriptions():
            subscription.fall_behind(sequence)
            self.context.dispatcher.mark_ready(subscription)

    def _on_floor(self) -> None:
        if self.context.bundle.family is Family.MEMORY:
            self.archive_catchup.check()
