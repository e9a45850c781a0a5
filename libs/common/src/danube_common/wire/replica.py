"""The replica protocol: what a bundle's archiver asks other storage instances. Requests may be repeated.

Every request may be repeated: it makes what is already so.
"""

from __future__ import annotations

import msgspec

from danube_common.wire.envelope import Done, Protocol


def copies_subject(instance_id: str) -> str:
    """The subject of requests for one storage instance's disk."""
    return f"danube.storage.{instance_id}.copies"


class SegmentRecipe(msgspec.Struct, frozen=True, array_like=True):
    """What a segment is built of: the sections of its topics in a range of positions.

    Attributes:
        key: in the store.
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


class BuildSegments(msgspec.Struct, tag="build-segments", frozen=True):
    """Build segments from a log range and keep them. Reply: Built when they are durable.

    The log must have the stretch whole. Refused: Unavailable.
    """

    bundle: str
    first_sequence: int
    last_sequence: int
    segments: tuple[SegmentRecipe, ...]


class Built(msgspec.Struct, tag="built", frozen=True):
    """The ``data_crc32c`` of each segment, in the order of the request."""

    data_crc32c: tuple[int, ...]


class DeleteSegments(msgspec.Struct, tag="delete-segments", frozen=True):
    """Delete segments that nobody reads. Reply: Done when the deletion is durable. Errors: Unavailable."""

    keys: tuple[str, ...]


CopiesRequest = BuildSegments | DeleteSegments
CopiesReply = Built | Done
REPLICA: Protocol[CopiesRequest, CopiesReply] = Protocol("a replica", CopiesRequest, CopiesReply)
