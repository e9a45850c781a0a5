"""Retention of one bundle's segments: carries out what `plan` decides.

A crash after any step, or another archiver at the same time, does no harm: manifest entries change by
compare-and-set, and deleting an object is idempotent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from typing import TypeVar

import structlog

from danube_common.archive.deletions import compacted
from danube_common.archive.records import SHARED, ManifestEntry, SegmentRecord
from danube_common.archive.segment_clients import SegmentClients
from danube_common.archive.state import read_archive_state
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, StoreUnavailable
from danube_common.model.strategy import Retention, StorageBackend
from danube_common.segment.format import TOPIC, TopicRange
from danube_common.wire.archive import ListTopics
from danube_storage.archive.replicas import ReplicaClient
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.state import change_archive_state
from danube_storage.retention.floors import ask_floors
from danube_storage.retention.metrics import RetentionMetrics
from danube_storage.retention.plan import (
    UNREADABLE_MS,
    EntrySegment,
    Mark,
    Plan,
    Reason,
    RetentionCache,
    RetentionInput,
    Rule,
    marked,
    plan,
    rule_of,
    shared_verdict,
    with_deleted,
)

DELETES_AT_ONCE_MAX = 8
DELETES_PER_PASS_MAX = 256
COMPACTIONS_PER_PASS_MAX = 256
FAILED_READS_MAX = 3
"""Failed reads of shared segments that end the pass: each may take the whole answer timeout."""
DELETED_TOPICS_MAX = 100_000
"""Deleted topics remembered; beyond that, the metadata store is asked again."""

S = TypeVar("S", bound=EntrySegment)

_log = structlog.get_logger(__name__)


class ArchiveRetention:
    """Retention of the segments of one session's bundle.

    Args:
        session: the bundle under this instance's lease.
        owners: the client that asks topic owners for acknowledged positions.
        metrics: of this package.
        delete_delay_ms: the time from a segment's mark to its deletion, so that readers may finish.
        forget_after_ms: how long the manifest lists deleted segments, for owners that were down.
    """

    def __init__(
        self,
        session: ArchiveSession,
        owners: OwnerClient,
        metrics: RetentionMetrics,
        *,
        delete_delay_ms: int,
        forget_after_ms: int,
    ) -> None:
        self._session = session
        self._ports = session.ports
        self._owners = owners
        self._metrics = metrics
        self._delete_delay_ms = delete_delay_ms
        self._forget_after_ms = forget_after_ms
        self._cache = RetentionCache()
        self._segment_clients = SegmentClients(session.ports.bus, session.ports.catalogue)
        self._replica_client = ReplicaClient(session.ports.bus)
        self._deleted_topics: set[int] = set()

    async def run_pass(self) -> None:
        """Mark, delete and compact what retention allows. After a DanubeError, the next pass continues."""
        entries = self._session.manifest.all()
        if not entries or not self._session.lease.held:
            return
        inputs = await self._inputs(entries)
        state = await read_archive_state(self._ports.metadata, self._session.bundle)
        self._cache.note(entries, inputs.now_ms)
        todo = plan(entries, state, inputs, self._cache, forget_after_ms=self._forget_after_ms)
        await self._mark(todo.marks)
        if todo.checkpoint_through:
            await self._session.save_counts()
        failure = await self._delete(todo.deletions[:DELETES_PER_PASS_MAX])
        await self._compact(todo)
        # Last, as it may wait for storage instances that do not answer.
        await self._mark(await self._shared_marks(todo, inputs))
        if failure is not None:
            raise failure

    async def _inputs(self, entries: Collection[ManifestEntry]) -> RetentionInput:
        catalogue = self._ports.catalogue
        retained = [segment for entry in entries for segment in entry.segments if segment.retained]
        await self._learn_deleted({segment.topic_id for segment in retained} - {SHARED})
        floors: Mapping[int, int] | None = None
        if retained and any(map(_until_ack, catalogue.topics_of(self._session.bundle))):
            answer = await ask_floors(self._owners, self._session.bundle)
            floors = answer.floors if answer else None
        return RetentionInput(time.time_ns() // 1_000_000, cache(self._rule), self._deleted_topics, floors)

    def _rule(self, topic_id: int) -> Rule | None:
        catalogue = self._ports.catalogue
        topic = catalogue.topic_by_id(topic_id)
        if topic is None or topic.strategy.reliable is None:
            return None
        return rule_of(topic.strategy.reliable, catalogue.policies(topic.topic_name))

    async def _learn_deleted(self, topic_ids: Iterable[int]) -> None:
        """Find the deleted topics: an unknown topic may be new, so the metadata store is asked first."""
        catalogue = self._ports.catalogue
        unknown = [
            one for one in topic_ids if one not in self._deleted_topics and catalogue.topic_by_id(one) is None
        ]
        if unknown:
            await catalogue.see_topics()
            if len(self._deleted_topics) + len(unknown) > DELETED_TOPICS_MAX:
                self._deleted_topics.clear()
            self._deleted_topics.update(one for one in unknown if catalogue.topic_by_id(one) is None)

    # Marks

    async def _shared_marks(self, todo: Plan, inputs: RetentionInput) -> list[Mark]:
        marks = []
        failures = 0
        for each in todo.unread:
            entry, segment = each.entry, each.segment
            try:
                topics = await self._topics_in(entry, segment)
            except DanubeError as error:
                # The segment stays. Whether it is damaged is found by its readers.
                _log.info("shared_segment_not_read", key=segment.key, reason=str(error))
                self._cache.unreadable[segment.key] = inputs.now_ms + UNREADABLE_MS
                failures += 1
                if failures == FAILED_READS_MAX:
                    break
                continue
            await self._learn_deleted(topic.topic_id for topic in topics)
            verdict = shared_verdict(segment, topics, inputs)
            if isinstance(verdict, Reason):
                marks.append(Mark(entry, segment, verdict))
            else:
                self._cache.holders[segment.key] = verdict
        return marks

    async def _topics_in(self, entry: ManifestEntry, segment: SegmentRecord) -> list[TopicRange]:
        answer = await self._segment_clients.first_answer(segment, ListTopics(entry.locator(segment)))
        topics = [TopicRange(*row) for row in TOPIC.iter_unpack(answer.rows)]
        if sum(topic.messages for topic in topics) != segment.messages:
            raise StoreUnavailable(f"the tail of {segment.key} is not that of its record")
        return topics

    async def _mark(self, marks: Sequence[Mark]) -> None:
        delete_after_ms = time.time_ns() // 1_000_000 + self._delete_delay_ms
        for entry, of_entry in _by_entry(marks):
            if not self._session.lease.held:
                return
            change = partial(
                marked, keys={mark.segment.key for mark in of_entry}, delete_after_ms=delete_after_ms
            )
            await self._session.manifest.change(entry, change)
            for mark in of_entry:
                self._metrics.marked_segments.labels(mark.reason).inc()
                self._metrics.marked_messages.labels(mark.reason).inc(mark.segment.messages)
        if marks:
            _log.info(
                "segments_marked",
                bundle=str(self._session.bundle),
                **Counter(mark.reason.replace("-", "_") for mark in marks),
            )

    # Deletions

    async def _delete(self, due: Sequence[EntrySegment]) -> DanubeError | None:
        """Delete objects, then their records; return the error of an object that could not be deleted."""
        slots = asyncio.Semaphore(DELETES_AT_ONCE_MAX)
        failure: DanubeError | None = None
        for entry, of_entry in _by_entry(due):
            segments = [each.segment for each in of_entry]
            if not self._session.lease.held:
                return failure
            errors = await asyncio.gather(*(self._delete_objects(one, slots) for one in segments))
            failure = next((error for error in errors if error is not None), failure)
            deleted = [one for one, error in zip(segments, errors, strict=True) if error is None]
            if deleted:
                await self._session.manifest.change(
                    entry, partial(with_deleted, keys={one.key for one in deleted})
                )
            for segment in deleted:
                self._metrics.deleted_segments.labels(segment.backend).inc()
                self._metrics.deleted_messages.labels(segment.backend).inc(segment.messages)
                self._metrics.deleted_bytes.labels(segment.backend).inc(segment.size_bytes)
                _log.info("segment_deleted", key=segment.key, messages=segment.messages)
        return failure

    async def _delete_objects(self, segment: SegmentRecord, slots: asyncio.Semaphore) -> DanubeError | None:
        async with slots:
            try:
                if segment.backend is StorageBackend.S3:
                    await self._ports.stores.of(StorageBackend.S3).delete(segment.key)
                else:
                    for holder in segment.holders:
                        await self._delete_copy(holder, segment.key)
            except DanubeError as error:
                self._metrics.delete_failures.labels(segment.backend).inc()
                _log.warning("segment_not_deleted", key=segment.key, reason=str(error))
                return error
        return None

    async def _delete_copy(self, holder: str, key: str) -> None:
        if holder == self._ports.instance_id:
            await self._ports.stores.of(StorageBackend.DISK).delete(key)
        elif self._ports.catalogue.is_live(holder):
            await self._replica_client.delete(holder, [key])
        # A holder that is down deletes the orphan with its next sweep.

    # Compaction

    async def _compact(self, todo: Plan) -> None:
        if not self._session.lease.held:
            return
        for entry in todo.leftovers[:COMPACTIONS_PER_PASS_MAX]:
            await self._session.manifest.forget(entry)
        compacts = todo.compacts[:COMPACTIONS_PER_PASS_MAX]
        if not compacts:
            return
        topic_ids = {topic.topic_id for topic in self._ports.catalogue.topics_of(self._session.bundle)}

        await change_archive_state(
            self._ports.metadata,
            self._session.bundle,
            lambda state: compacted(state, compacts, topic_ids),
        )
        for entry in compacts:
            await self._session.manifest.forget(entry)


def _until_ack(topic: Topic) -> bool:
    reliable = topic.strategy.reliable
    return reliable is not None and reliable.retention is Retention.UNTIL_ACK


def _by_entry(segments: Iterable[S]) -> Iterator[tuple[ManifestEntry, list[S]]]:
    """Group segments that are in log order by their manifest entries."""
    for _, group in groupby(segments, key=lambda each: each.entry.first_sequence):
        of_entry = list(group)
        yield of_entry[0].entry, of_entry
