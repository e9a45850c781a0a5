"""The catalogue of tier 2: which stretches of a bundle's log are in which segments.

A bundle's log is archived in *cuts*. A cut is a stretch of the log, first to last sequence, whose
messages are all in the cut's segments; each cut begins where the one before ended. Of a topic, a cut
holds either segments of its own or a part of one segment that many topics share.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.strategy import StorageBackend

SHARED = 0
"""Topic id of a segment that many topics share."""
S3_HOLDER = "s3"
"""Stands for a holder where the segment is in S3: any storage instance reads it."""

_OFFSET = struct.Struct("<QQ")


class ArchiverLease(msgspec.Struct, frozen=True):
    """The storage instance that archives a bundle; ``nonce`` tells two times of one instance apart."""

    instance_id: str
    nonce: str


class SegmentRecord(msgspec.Struct, frozen=True):
    """One catalogued segment; it was durable before it was catalogued.

    Attributes:
        key: in its `SegmentStore`.
        backend: disk or s3.
        holders: the storage instances that keep it on their disk; empty for S3.
        topic_id: `SHARED` or the one topic.
        first_position: of its first message; of any topic, if shared.
        messages: how many.
        first_offset: the topic's offset of its first message; 0 if shared.
        published_ms_min: when the log stored its first message, ms since the epoch.
        delete_after_ms: 0 while it is retained; else nobody begins to read it any more, and it is
            deleted when the wall clock passes this.
        quarantined: by holder, or `S3_HOLDER`, why it is not to be trusted from some point on.
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

    @property
    def retained(self) -> bool:
        return self.delete_after_ms == 0

    @property
    def places(self) -> tuple[str, ...]:
        """Where it is: its holders, or `S3_HOLDER`."""
        return self.holders if self.backend is StorageBackend.DISK else (S3_HOLDER,)


class DeletedSegment(msgspec.Struct, frozen=True):
    """What is left of a segment that retention has deleted: the count of it."""

    topic_id: int
    first_position: int
    last_position: int
    messages: int
    size_bytes: int


class ManifestEntry(msgspec.Struct, frozen=True):
    """Log sequences ``first_sequence..last_sequence``, whose messages are in ``segments`` or deleted.

    The bundle's newest cut stays in the catalogue, also with nothing left in it: it says where to go on.
    """

    bundle: str
    first_sequence: int
    last_sequence: int
    cut_ms: int
    archiver: str
    segments: tuple[SegmentRecord, ...]
    deleted: tuple[DeletedSegment, ...] = ()

    @property
    def last_position(self) -> int:
        """The greatest position that a message in it can have."""
        return end_of_sequence(self.last_sequence)

    @property
    def before_position(self) -> int:
        """The greatest position that a message before it can have."""
        return end_of_sequence(self.first_sequence - 1) if self.first_sequence > 1 else BEFORE_ALL

    def segments_for(self, topic: Topic) -> list[SegmentRecord]:
        """Return the segments that may hold messages of a reliable topic, in log order, retained or not.

        A topic's messages are in segments of its own, or in shared segments on its storage backend.
        """
        reliable = topic.strategy.reliable
        found = [record for record in self.segments if record.topic_id == topic.topic_id]
        has_own = found or any(deleted.topic_id == topic.topic_id for deleted in self.deleted)
        if not has_own and reliable is not None:
            found = [
                record
                for record in self.segments
                if record.topic_id == SHARED and record.backend is reliable.storage
            ]
        return sorted(found, key=lambda record: record.first_position)


class Deletions(msgspec.Struct, frozen=True):
    """Counted over the life of a topic."""

    segments: int = 0
    messages: int = 0
    size_bytes: int = 0

    def plus(self, deleted: DeletedSegment) -> Deletions:
        return Deletions(
            self.segments + 1, self.messages + deleted.messages, self.size_bytes + deleted.size_bytes
        )


class BundleArchive(msgspec.Struct, frozen=True):
    """What outlives a bundle's cuts.

    Attributes:
        forgotten_through: cuts up to this sequence were taken out of the catalogue, or are about to be;
            their deletions are in ``deletions``.
        deletions: by topic id as a decimal (`SHARED` for shared segments), of forgotten cuts only.
        offsets_through: ``offsets`` counts the messages of all cuts up to this sequence.
        offsets: `pack_offsets` of each topic's next offset.
    """

    forgotten_through: int = 0
    deletions: Mapping[str, Deletions] = {}
    offsets_through: int = 0
    offsets: bytes = b""


def pack_offsets(offsets: Mapping[int, int]) -> bytes:
    """Next offsets by topic id, in 16 bytes each."""
    return b"".join(_OFFSET.pack(topic_id, offset) for topic_id, offset in sorted(offsets.items()))


def unpack_offsets(data: bytes) -> dict[int, int]:
    """Raises CorruptData."""
    if len(data) % _OFFSET.size:
        raise CorruptData(f"{len(data)} bytes are no table of offsets")
    return dict(_OFFSET.iter_unpack(data))
