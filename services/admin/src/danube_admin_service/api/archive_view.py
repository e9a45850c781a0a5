"""The archive of one bundle as its manifest describes it at one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from danube_common.archive.deletions import deletions
from danube_common.archive.records import (
    SHARED,
    Deletions,
    ManifestEntry,
    MemoryLogState,
    SegmentRecord,
)
from danube_common.archive.state import read_archive_state
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, Topic, read_records
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_proto import danube_platform_pb2 as wire


@dataclass(frozen=True, slots=True)
class ArchiveView:
    """The manifest entries of one bundle, oldest first, and the counts of what was deleted, by topic id.

    ``memory_log``: of a memory bundle.
    """

    entries: Sequence[ManifestEntry]
    deletions: Mapping[int, Deletions]
    memory_log: MemoryLogState

    @property
    def archived_through(self) -> int:
        """The last log sequence that is archived; 0 if none is."""
        return self.entries[-1].last_sequence if self.entries else 0

    def segments(self, topic: Topic) -> list[SegmentRecord]:
        """Return the segments that may hold messages of the topic, in log order."""
        entries = [entry for entry in self.entries if entry.last_sequence > topic.log_floor]
        return [segment for entry in entries for segment in entry.segments_for(topic)]

    def deleted(self, topic_id: int) -> wire.DeletedTotals:
        """Return the counts of the topic's deleted segments."""
        counted = self.deletions.get(topic_id, Deletions())
        return wire.DeletedTotals(
            segments=counted.segments, messages=counted.messages, size_bytes=counted.size_bytes
        )


async def read_archive_view(store: MetadataStore, bundle: Bundle) -> ArchiveView:
    """Read the archive of a bundle. Raises MetadataUnavailable."""
    entries = await read_records(store, keys.manifest_prefix(bundle), ManifestEntry)
    # Read after the entries, as `deletions` requires.
    archive = await read_archive_state(store, bundle)
    return ArchiveView(entries, deletions(archive, entries), archive.memory_log)


async def live_instances(store: MetadataStore) -> set[str]:
    """Return the ids of the instances that run now. Raises MetadataUnavailable."""
    return {one.instance_id for one in await read_records(store, keys.REGISTER, Instance)}


def is_unreadable(segment: SegmentRecord, live: Collection[str]) -> bool:
    """Return whether nothing can be read of a segment: every copy is damaged, or its holder is away."""
    if segment.backend is not StorageBackend.DISK:
        return False
    return not any(one in live and one not in segment.quarantined for one in segment.holders)


def totals(segments: Iterable[SegmentRecord]) -> list[wire.SegmentTotals]:
    """Add up segments: one row for each backend that has any."""
    rows: defaultdict[str, wire.SegmentTotals] = defaultdict(wire.SegmentTotals)
    for segment in segments:
        row = rows[segment.backend.value]
        row.storage = segment.backend.value
        row.segments += 1
        row.messages += segment.messages
        row.size_bytes += segment.size_bytes
    return [rows[backend] for backend in sorted(rows)]


def quarantined(segment: SegmentRecord) -> list[wire.QuarantinedSegment]:
    """Return one row for each quarantined copy of the segment."""
    return [
        wire.QuarantinedSegment(
            key=segment.key, shared=segment.topic_id == SHARED, holder=holder, reason=reason
        )
        for holder, reason in sorted(segment.quarantined.items())
    ]
