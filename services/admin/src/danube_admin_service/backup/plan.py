"""What belongs to a backup, and when its parts fit each other. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from danube_common.archive.records import DeletedSegment, ManifestEntry
from danube_common.cluster import keys
from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.strategy import StorageBackend

OF_PROCESSES: Final = (
    keys.LEADER,
    keys.REGISTER,
    keys.ASSIGNMENTS,
    keys.OWNERS,
    keys.LOAD,
    keys.DRAINS,
    keys.ARCHIVERS,
    keys.SCRUBS,
)
"""Keys that tell of living processes: a restored cluster has others."""
PER_BUNDLE: Final = (keys.MANIFESTS, keys.ARCHIVES)
"""Keys that are read with the log of their bundle."""


def is_kept(key: str) -> bool:
    """Return whether a record of the metadata store belongs to a backup."""
    return not key.startswith(OF_PROCESSES)


def fits(archived_through: int, first_sequence: int, last_sequence: int) -> bool:
    """Return whether a manifest and a copy of its bundle's log make one history.

    They must not leave a gap between them, and the log must go on where the manifest ends or later: sequences
    that the manifest names are never given out again.
    """
    return first_sequence <= archived_through + 1 and archived_through <= last_sequence


def without(entry: ManifestEntry, gone: Collection[str]) -> ManifestEntry:
    """Return the entry as it is when the segments with the keys ``gone`` are deleted."""
    deleted = tuple(
        DeletedSegment(
            segment.topic_id,
            segment.first_position,
            segment.last_position,
            segment.messages,
            segment.size_bytes,
        )
        for segment in entry.segments
        if segment.key in gone
    )
    kept = tuple(segment for segment in entry.segments if segment.key not in gone)
    return msgspec.structs.replace(entry, segments=kept, deleted=(*entry.deleted, *deleted))


def settled(entry: ManifestEntry) -> ManifestEntry:
    """Return the entry without the segments that are marked for deletion: nobody reads them any more."""
    return without(entry, {segment.key for segment in entry.segments if not segment.retained})


def held_by(entry: ManifestEntry, holder: str) -> ManifestEntry:
    """Return the entry as it is when one storage instance has all its segments on disk."""
    segments = tuple(
        msgspec.structs.replace(segment, holders=(holder,), copying=(), quarantined={})
        if segment.backend is StorageBackend.DISK
        else segment
        for segment in entry.segments
    )
    return msgspec.structs.replace(entry, segments=segments)


def with_floor_of(value: bytes, log_ends: Mapping[str, int]) -> bytes:
    """Return the record of a topic, whose floor is not above the end of its bundle's log as it was copied.

    A topic that was created after its log was copied has its floor above it, and would never see what a
    restored log stores up to there. Other records are returned as they are.

    Raises:
        CorruptData: the record is not a JSON object.
    """
    try:
        record = msgspec.json.decode(value, type=dict[str, Any])
    except UNDECODABLE as error:
        raise CorruptData(f"the record of a topic cannot be read: {error}") from None
    end = log_ends.get(record.get("bundle", ""))
    if end is None or record.get("log_floor", 0) <= end:
        return value
    return msgspec.json.encode({**record, "log_floor": end})
