"""The repair protocol: storage instances copy disk segments from each other.

Every request may be repeated.
"""

from __future__ import annotations

import msgspec

from danube_common.wire.archive import SegmentLocator
from danube_common.wire.envelope import Done, Protocol, Request

FETCH_BYTES_MAX = 2 << 20
"""More than the tail of any segment."""


def repair_subject(instance_id: str) -> str:
    """Return the subject of requests to one storage instance."""
    return f"danube.storage.{instance_id}.repair"


class CopyProgress(msgspec.Struct, tag="copy-progress", frozen=True):
    """``done``: the copy is verified and durable."""

    done: bool


class CopySegment(Request[CopyProgress], tag="copy-segment", frozen=True):
    """Copy a segment from the disk of another instance to the own one.

    The segment's record names the asked instance under ``copying``, or as a holder whose copy is in
    quarantine. Answered with CopyProgress: the copying goes on between requests. Errors: NotFound, Refused,
    Unavailable.

    Attributes:
        locator: identifies the segment.
        sources: the instances to copy from, the most promising first.
    """

    locator: SegmentLocator
    sources: tuple[str, ...]


class SegmentBytes(msgspec.Struct, tag="segment-bytes", frozen=True):
    """``data`` is shorter than asked at the segment's end only. ``size_bytes``: of the whole segment."""

    data: bytes
    size_bytes: int


class FetchSegment(Request[SegmentBytes], tag="fetch-segment", frozen=True):
    """Read a range of a disk segment as it is, without verification. Reply: SegmentBytes. Error: NotFound.

    Attributes:
        key: of the segment in its store.
        offset: where to read from; a negative one counts from the segment's end.
        length: at most FETCH_BYTES_MAX.
    """

    key: str
    offset: int
    length: int


class VerifySegment(Request[Done], tag="verify-segment", frozen=True):
    """Verify the own copy of a segment, and put it into quarantine if it is damaged. Reply: Done."""

    locator: SegmentLocator


RepairRequest = CopySegment | FetchSegment | VerifySegment
REPAIR: Protocol[RepairRequest] = Protocol("a storage instance", RepairRequest)
