"""Retention of one bundle's segments: what `retention` decides is carried out, a pass at a time.

Every step may be the last one before a crash, and another archiver may do the same at the same time:
marks and rows are compare-and-set, deleting an object twice is deleting it once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache, partial
from typing import TypeVar

import structlog

from danube_common.archive.deletions import compacted
from danube_common.archive.records import SHARED, BundleArchive, ManifestEntry, SegmentRecord
from danube_common.archive.segment_clients import SegmentClients
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, StoreUnavailable
from danube_common.model.strategy import Retention, StorageBackend
from danube_common.segment.format import TOPIC, TopicRange
from danube_common.wire.archive import ListTopics, SegmentLocator, SegmentTopics
from danube_storage.archive.replicas import ReplicaClient
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.state import change_archive_state, read_archive_state
from danube_storage.retention.floors import ask_floors
from danube_storage.retention.metrics import RetentionMetrics
from danube_storage.retention.plan import (
    UNREADABLE_MS,
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
    without,
)

DELETES_AT_ONCE_MAX = 8
DELETES_PER_PASS_MAX = 256
FOLDS_PER_PASS_MAX = 256
FAILED_READS_MAX = 3
"""Each may take a storage instance's whole time to answer; then the pass ends."""
GONE_MAX = 100_000
"""Deleted topics remembered; the store is asked again about those that are forgotten."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class ArchiveRetention:
    """One session's.

    Args:
        session: the bundle, under this instance's lease.
        owners: asked for what is acknowledged.
        metrics: where it counts.
        delete_delay_ms: between a segment's mark and its deletion: who reads it may finish.
        forget_after_ms: how long the rows of what was deleted stay: owners that were away count by them.
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
        self._memory = RetentionCache()
        self._places = SegmentClients(session.ports.bus, session.ports.catalogue)
        self._copyists = ReplicaClient(session.ports.bus)
        self._gone: set[int] = set()

    async def run_pass(self) -> None:
        """Mark, delete, fold and forget what may be. Raises DanubeError: the next pass goes on."""
        cuts = self._session.cuts.all()
        if not cuts or not self._session.lease.held:
            return
        facts = await self._facts(cuts)
        archive = await read_archive_state(self._ports.metadata, self._session.bundle)
        self._memory.note(cuts, facts.now_ms)
        found = plan(cuts, archive, facts, self._memory, forget_after_ms=self._forget_after_ms)
        await self._mark(found.marks)
        if found.checkpoint_through:
            await self._session.save_offsets()
        failure = await self._delete(found.deletions[:DELETES_PER_PASS_MAX])
        await self._fold(found)
        # Last, as it waits for storage instances that may not answer.
        await self._mark(await self._shared_marks(found, facts))
        if failure is not None:
            raise failure

    async def _facts(self, cuts: Collection[ManifestEntry]) -> RetentionInput:
        catalogue = self._ports.catalogue
        retained = [segment for cut in cuts for segment in cut.segments if segment.retained]
        await self._learn_gone({segment.topic_id for segment in retained} - {SHARED})
        floors: Mapping[int, int] | None = None
        if retained and any(map(_until_ack, catalogue.topics_of(self._session.bundle))):
            floors = await ask_floors(self._owners, self._session.bundle)
        return RetentionInput(time.time_ns() // 1_000_000, cache(self._rule), self._gone, floors)

    def _rule(self, topic_id: int) -> Rule | None:
        catalogue = self._ports.catalogue
        topic = catalogue.topic_by_id(topic_id)
        if topic is None or topic.strategy.reliable is None:
            return None
        return rule_of(topic.strategy.reliable, catalogue.policies(topic.topic_name))

    async def _learn_gone(self, topic_ids: Iterable[int]) -> None:
        """A topic that this view does not have may be new: the store is asked before it counts as gone."""
        catalogue = self._ports.catalogue
        unknown = [one for one in topic_ids if one not in self._gone and catalogue.topic_by_id(one) is None]
        if unknown:
            await catalogue.see_topics()
            if len(self._gone) + len(unknown) > GONE_MAX:
                self._gone.clear()
            self._gone.update(one for one in unknown if catalogue.topic_by_id(one) is None)

    # Marks

    async def _shared_marks(self, found: Plan, facts: RetentionInput) -> list[Mark]:
        marks = []
        failures = 0
        for cut, segment in found.unread:
            try:
                topics = await self._topics_in(cut, segment)
            except DanubeError as error:
                # It keeps what it holds; whether it is damaged is for its readers to find out.
                _log.info("shared_segment_not_read", key=segment.key, reason=str(error))
                self._memory.unreadable[segment.key] = facts.now_ms + UNREADABLE_MS
                failures += 1
                if failures == FAILED_READS_MAX:
                    break
                continue
            await self._learn_gone(topic.topic_id for topic in topics)
            verdict = shared_verdict(segment, topics, facts)
            if isinstance(verdict, Reason):
                marks.append(Mark(cut, segment, verdict))
            else:
                self._memory.holders[segment.key] = verdict
        return marks

    async def _topics_in(self, cut: ManifestEntry, segment: SegmentRecord) -> list[TopicRange]:
        place = SegmentLocator(cut.bundle, cut.first_sequence, segment.backend, segment.key)
        answer = await self._places.first_answer(segment, ListTopics(place), SegmentTopics)
        topics = [TopicRange(*row) for row in TOPIC.iter_unpack(answer.rows)]
        if sum(topic.messages for topic in topics) != segment.messages:
            raise StoreUnavailable(f"the tail of {segment.key} is not that of its record")
        return topics

    async def _mark(self, marks: Collection[Mark]) -> None:
        delete_after_ms = time.time_ns() // 1_000_000 + self._delete_delay_ms
        for cut, of_cut in _by_cut((mark.cut, mark) for mark in marks):
            if not self._session.lease.held:
                return
            change = partial(
                marked, keys={mark.segment.key for mark in of_cut}, delete_after_ms=delete_after_ms
            )
            await self._session.cuts.change(cut, change)
            for mark in of_cut:
                self._metrics.marked_segments.labels(mark.reason).inc()
                self._metrics.marked_messages.labels(mark.reason).inc(mark.segment.messages)
        if marks:
            _log.info(
                "segments_marked",
                bundle=str(self._session.bundle),
                **{reason.replace("-", "_"): n for reason, n in _counted(marks).items()},
            )

    # Deletions

    async def _delete(self, due: Collection[tuple[ManifestEntry, SegmentRecord]]) -> DanubeError | None:
        """Delete objects, then their records; returns why some could not be."""
        places = asyncio.Semaphore(DELETES_AT_ONCE_MAX)
        failure: DanubeError | None = None
        for cut, segments in _by_cut(due):
            if not self._session.lease.held:
                return failure
            outcomes = await asyncio.gather(*(self._delete_objects(one, places) for one in segments))
            failure = next((error for error in outcomes if error is not None), failure)
            gone = [one for one, error in zip(segments, outcomes, strict=True) if error is None]
            if gone:
                await self._session.cuts.change(cut, partial(without, keys={one.key for one in gone}))
            for segment in gone:
                self._metrics.deleted_segments.labels(segment.backend).inc()
                self._metrics.deleted_messages.labels(segment.backend).inc(segment.messages)
                self._metrics.deleted_bytes.labels(segment.backend).inc(segment.size_bytes)
                _log.info("segment_deleted", key=segment.key, messages=segment.messages)
        return failure

    async def _delete_objects(self, segment: SegmentRecord, places: asyncio.Semaphore) -> DanubeError | None:
        async with places:
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
            await self._copyists.delete(holder, [key])
        # One that is down deletes it when it is back and finds that no cut names it.

    # Forgetting

    async def _fold(self, found: Plan) -> None:
        if not self._session.lease.held:
            return
        for cut in found.leftovers[:FOLDS_PER_PASS_MAX]:
            await self._session.cuts.forget(cut)
        compacts = found.compacts[:FOLDS_PER_PASS_MAX]
        if not compacts:
            return
        topic_ids = {topic.topic_id for topic in self._ports.catalogue.topics_of(self._session.bundle)}

        def fold(archive: BundleArchive) -> BundleArchive:
            return compacted(archive, compacts, topic_ids)

        await change_archive_state(self._ports.metadata, self._session.bundle, fold)
        for cut in compacts:
            await self._session.cuts.forget(cut)


def _until_ack(topic: Topic) -> bool:
    reliable = topic.strategy.reliable
    return reliable is not None and reliable.retention is Retention.UNTIL_ACK


def _by_cut(pairs: Iterable[tuple[ManifestEntry, T]]) -> Iterable[tuple[ManifestEntry, list[T]]]:
    """Oldest cut first."""
    grouped: defaultdict[int, list[T]] = defaultdict(list)
    cuts: dict[int, ManifestEntry] = {}
    for cut, one in pairs:
        cuts[cut.first_sequence] = cut
        grouped[cut.first_sequence].append(one)
    return [(cuts[first], grouped[first]) for first in sorted(cuts)]


def _counted(marks: Iterable[Mark]) -> dict[str, int]:
    counted: defaultdict[str, int] = defaultdict(int)
    for mark in marks:
        counted[str(mark.reason)] += 1
    return counted
