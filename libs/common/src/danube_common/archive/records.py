"""Stored records of the archive: which ranges of a bundle's log are in which segments.

A bundle's *manifest* is a list of entries. A manifest entry is a range of log sequences whose messages are
all in the entry's segments; each entry begins where the one before ended. An entry holds a topic either in
segments of its own or in segments that many topics share.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import SegmentLocator

SHARED = 0
"""Topic id of a segment that many topics share."""
S3_HOLDER = "s3"
"""Stands for the holder of a segment in S3, which any storage instance with S3 reads."""

_OFFSET = struct.Struct("<QQ")


class ArchiverLease(msgspec.Struct, frozen=True):
    """The storage instance that archives a bundle; ``nonce`` tells two leases of one instance apart."""

    instance_id: str
    nonce: str


class SegmentRecord(msgspec.Struct, frozen=True):
    """One segment of a manifest entry; it was durable before it was recorded.

    Attributes:
        key: of the object in its segment store.
        backend: disk or S3.
        topic_id: the topic whose messages the segment holds, or `SHARED`.
        first_position: of its first message, of whichever topic.
        messages: how many it holds, of all topics.
        first_offset: the topic's offset of its first message; 0 if shared.
        published_ms_min: when the log stored its oldest message, ms since the epoch.
        holders: the storage instances that keep it on disk; empty for S3.
        delete_after_ms: 0 while it is retained. Otherwise no reader starts to read it, and it is deleted
            when the wall clock passes this time.
        quarantined: why a copy is damaged from some position on, by holder or `S3_HOLDER`.
        copying: the storage instances that are making a copy on their disks; they are no holders yet.
        bound_for: the backend that its topics ask for, if that did not answer; the segment waits elsewhere.
    """

    key: str
    backend: StorageBackend
    topic_id: int
    first_position: int
    last_position: int
    messages: int
    first_offset: int
    published_ms_min: int
    published_ms_max: int
    size_bytes: int
    data_crc32c: int
    holders: tuple[str, ...] = ()
    delete_after_ms: int = 0
    quarantined: Mapping[str, str] = {}
    copying: tuple[str, ...] = ()
    bound_for: StorageBackend | None = None

    @property
    def retained(self) -> bool:
        """Whether the segment is not marked for deletion."""
        return self.delete_after_ms == 0


class DeletedSegment(msgspec.Struct, frozen=True):
    """The counts of a segment that retention has deleted."""

    topic_id: int
    first_position: int
    last_position: int
    messages: int
    size_bytes: int


class ManifestEntry(msgspec.Struct, frozen=True):
    """Log sequences ``first_sequence..last_sequence``, whose messages are in ``segments`` or were deleted.

    The newest entry of a bundle is never removed, not even when it is empty: archiving goes on behind it.
    """

    bundle: str
    first_sequence: int
    last_sequence: int
    cut_ms: int
    archiver: str
    segments: tuple[SegmentRecord, ...]
    deleted: tuple[DeletedSegment, ...] = ()

    @property
    def before_position(self) -> int:
        """The greatest position that a message before the entry can have."""
        return end_of_sequence(self.first_sequence - 1) if self.first_sequence > 1 else BEFORE_ALL

    @property
    def has_shared(self) -> bool:
        """Whether it has or had shared segments: its records do not count each topic's messages then."""
        return any(row.topic_id == SHARED for row in self._rows)

    def own_messages(self) -> list[tuple[int, int]]:
        """Return (topic id, messages) of each segment that holds or held one topic."""
        return [(row.topic_id, row.messages) for row in self._rows if row.topic_id != SHARED]

    @property
    def _rows(self) -> tuple[SegmentRecord | DeletedSegment, ...]:
        return (*self.segments, *self.deleted)

    def locator(self, record: SegmentRecord) -> SegmentLocator:
        """The locator that requests name a segment of this entry by."""
        return SegmentLocator(self.bundle, self.first_sequence, record.backend, record.key)

    def segments_for(self, topic: Topic) -> list[SegmentRecord]:
        """Return the segments that may hold messages of a reliable topic, in log order, retained or not.

        A topic's messages are in segments of its own, or in shared segments on or bound for its storage
        backend.
        """
        reliable = topic.strategy.reliable
        found = [record for record in self.segments if record.topic_id == topic.topic_id]
        has_own = found or any(deleted.topic_id == topic.topic_id for deleted in self.deleted)
        if not has_own and reliable is not None:
            found = [
                record
                for record in self.segments
                if record.topic_id == SHARED and (record.bound_for or record.backend) is reliable.storage
            ]
        return sorted(found, key=lambda record: record.first_position)


class Deletions(msgspec.Struct, frozen=True):
    """What was deleted of a topic since it was created."""

    segments: int = 0
    messages: int = 0
    size_bytes: int = 0

    def plus(self, deleted: DeletedSegment) -> Deletions:
        """These counts and one more segment."""
        return Deletions(
            self.segments + 1, self.messages + deleted.messages, self.size_bytes + deleted.size_bytes
        )


class ScrubProgress(msgspec.Struct, frozen=True):
    """How far a storage instance's scrub has come.

    Attributes:
        through_ms: every segment whose turn came up to this time was verified; wall clock.
    """

    through_ms: int


class MemoryLogState(msgspec.Struct, frozen=True):
    """The log of a memory bundle as retention has last left it.

    Attributes:
        held_by: the topic whose retention keeps the oldest message, and with it all later ones; empty if the
            log is.
        size_bytes: of the log.
        oldest_ms: when the oldest message was stored; wall clock.
    """

    held_by: str = ""
    size_bytes: int = 0
    oldest_ms: int = 0


class BundleArchive(msgspec.Struct, frozen=True):
    """What is kept of a bundle's archive when manifest entries are removed.

    Attributes:
        forgotten_through: entries up to this sequence were removed from the manifest, or are about to be;
            their deletions are in ``deletions``.
        deletions: of removed entries, by topic id as a decimal (`SHARED` for shared segments).
        offsets_through: ``offsets`` counts the messages of all entries up to this sequence.
        offsets: `pack_offsets` of each topic's next offset.
        sequences: `ProducerSequences.packed`; what idempotent producers have stored in the purged part of the
            log, except, for a memory bundle, what an owner has journaled.
        memory_log: of a memory bundle.
    """

    forgotten_through: int = 0
    deletions: Mapping[str, Deletions] = {}
    offsets_through: int = 0
    offsets: bytes = b""
    sequences: bytes = b""
    memory_log: MemoryLogState = MemoryLogState()


def pack_offsets(offsets: Mapping[int, int]) -> bytes:
    """Encode the next offset of each topic id in 16 bytes."""
    return b"".join(_OFFSET.pack(topic_id, offset) for topic_id, offset in sorted(offsets.items()))


def unpack_offsets(data: bytes) -> dict[int, int]:
    """Decode what `pack_offsets` encoded. Raises CorruptData."""
    if len(data) % _OFFSET.size:
        raise CorruptData(f"{len(data)} bytes are no table of offsets")
    return dict(_OFFSET.iter_unpack(data))
