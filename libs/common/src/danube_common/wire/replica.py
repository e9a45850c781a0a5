"""The replica protocol: a bundle's archiver asks other storage instances for replicas of disk segments.

Every request may be repeated.
"""

from __future__ import annotations

import msgspec

from danube_common.wire.envelope import Done, Protocol, Request


def replica_subject(instance_id: str) -> str:
    """Return the subject of requests to one storage instance."""
    return f"danube.storage.{instance_id}.copies"


class SegmentPlan(msgspec.Struct, frozen=True, array_like=True):
    """How a segment is built from the log: the sections that its topics have in a range of positions.

    Attributes:
        key: of the segment in its store.
        topic_id: the one topic, or `SHARED`.
        first_position: of its first message.
        last_position: of its last message.
        first_offsets: `pack_offsets` of each topic's offset of its first message in it.
    """

    key: str
    topic_id: int
    first_position: int
    last_position: int
    first_offsets: bytes


class Built(msgspec.Struct, tag="built", frozen=True):
    """The ``data_crc32c`` of each segment, in the order of the request."""

    data_crc32c: tuple[int, ...]


class BuildSegments(Request[Built], tag="build-segments", frozen=True):
    """Build and keep segments of a log range, which the log must have whole.

    Answered with Built when the segments are durable. Error: Unavailable.
    """

    bundle: str
    first_sequence: int
    last_sequence: int
    segments: tuple[SegmentPlan, ...]


class DeleteSegments(Request[Done], tag="delete-segments", frozen=True):
    """Delete segments. Answered with Done when they are deleted durably. Error: Unavailable."""

    keys: tuple[str, ...]


ReplicaRequest = BuildSegments | DeleteSegments
REPLICA: Protocol[ReplicaRequest] = Protocol("a replica", ReplicaRequest)
