"""The archive protocol: what services ask storage instances. Every request may be repeated.

Every request may be repeated: it changes nothing, or makes what is already so.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from danube_common.model.strategy import StorageBackend
from danube_common.wire.envelope import Protocol, Request

if TYPE_CHECKING:
    EntryBytes = bytes | memoryview
else:
    EntryBytes = memoryview  # decoded in place: these are megabytes

READ_BYTES_DEFAULT = 1 << 20
READ_BYTES_MAX = 8 << 20


def storage_subject(instance_id: str) -> str:
    """The subject of requests to one storage instance."""
    return f"danube.storage.{instance_id}"


class SegmentLocator(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a segment and the manifest entry that it belongs to."""

    bundle: str
    entry_first_sequence: int
    backend: StorageBackend
    key: str


_ON_THE_BUS = {"locator": "place"}  # the name that earlier versions read


class SegmentData(msgspec.Struct, tag="segment-data", frozen=True):
    """Verified entries as they lie in the segment (see `danube_common.segment.format`).

    Attributes:
        entries: whole entries of the topic, back to back; empty after the last one.
        next_position: the position of the next read; above the segment's last position after the last entry.
        corrupt: why this instance cannot serve ``next_position`` and later: its replica is damaged and in
            quarantine. Empty if what was read is intact.
        splits: the ends of the following reads of this size, so that a client can send them in parallel.
    """

    entries: EntryBytes
    next_position: int
    corrupt: str = ""
    splits: tuple[int, ...] = ()


class ReadSegment(Request[SegmentData], tag="read-segment", frozen=True, rename=_ON_THE_BUS):
    """Read messages of one topic. Reply: SegmentData. Errors: NotFound, Unavailable.

    Attributes:
        locator: identifies the segment.
        topic_id: the topic to read; a shared segment holds other topics too.
        from_position: the first position to read; the entry that holds it is returned whole.
        bytes_max: approximate size of the reply, at most READ_BYTES_MAX; at least one entry is returned.
        until_position: the position to stop before, one of `SegmentData.splits`; 0 to read on.
    """

    locator: SegmentLocator
    topic_id: int
    from_position: int
    bytes_max: int = READ_BYTES_DEFAULT
    until_position: int = 0


class By(StrEnum):
    """What `Locate` searches by."""

    POSITION = "position"
    OFFSET = "offset"
    TIME = "time"
    """When the log stored the message, ms since the epoch."""


class Located(msgspec.Struct, tag="located", frozen=True):
    """The position and the offset of the message found."""

    position: int
    offset: int


class Locate(Request[Located], tag="locate", frozen=True, rename=_ON_THE_BUS):
    """Find the topic's first message at or after a value. Reply: Located. Errors: NotFound, Unavailable."""

    locator: SegmentLocator
    topic_id: int
    by: By
    value: int


class SegmentTopics(msgspec.Struct, tag="segment-topics", frozen=True):
    """Rows of `danube_common.segment.format.TOPIC` by ascending topic id, back to back."""

    rows: bytes


class ListTopics(Request[SegmentTopics], tag="list-topics", frozen=True, rename=_ON_THE_BUS):
    """List what a segment holds of each topic. Reply: SegmentTopics. Errors: NotFound, Unavailable."""

    locator: SegmentLocator


ArchiveRequest = ReadSegment | Locate | ListTopics
ARCHIVE: Protocol[ArchiveRequest] = Protocol("storage", ArchiveRequest)

_NO_ENTRIES = b"\xa7entries\xc4\x00"
_ENTRIES = b"\xa7entries\xc6"


def encode_data(parts: Sequence[bytes | memoryview], data: SegmentData) -> bytes:
    """Encode ``data``, which has no entries, with the entries ``parts``, each copied only once."""
    before, empty, after = ARCHIVE.encode(data).partition(_NO_ENTRIES)
    if not empty:
        raise ValueError("the entries are in the parts")
    length = sum(map(len, parts))
    return b"".join((before, _ENTRIES, length.to_bytes(4, "big"), *parts, after))
