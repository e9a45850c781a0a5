"""Decides how far a memory bundle's log is purged. Pure.

Such a bundle has no segments. Its topics share one log, which is purged up to the first message that any
of them needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from danube_common.log.port import LogBounds
from danube_common.model.position import end_of_sequence, sequence_of
from danube_common.model.strategy import Retention

PRESSURE = 0.75
"""Part of a log's bound above which unexpired messages that no subscription needs are purged too."""


@dataclass(frozen=True, slots=True)
class MemoryTopic:
    """A topic of the bundle. All its messages are above the sequence ``log_floor``."""

    topic_id: int
    log_floor: int
    retention: Retention
    period_ms: int


def under_pressure(bounds: LogBounds, bytes_max: int) -> bool:
    """Return whether the log is so near its bound that it must be purged further."""
    return bounds.stored_bytes > PRESSURE * bytes_max


@dataclass(frozen=True, slots=True)
class PurgePoint:
    """How far a log may be purged.

    Attributes:
        through: no topic needs messages through this sequence; below the log's first if there is none.
        holder: the id of the topic that needs the next message; 0 if none needs any.
    """

    through: int
    holder: int


def purge_point(
    bounds: LogBounds,
    topics: Iterable[MemoryTopic],
    floors: Mapping[int, int] | None,
    expired_through: Mapping[int, int],
    *,
    pressed: bool,
) -> PurgePoint:
    """Return how far a log may be purged, and which topic keeps it from going further.

    Args:
        bounds: of the log.
        topics: all topics of the bundle, read after ``bounds``; messages of other topics are purged.
        floors: by topic id, the position up to which every subscription has acknowledged; topics without a
            subscription are absent. None while no owner answers.
        expired_through: by period in ms, the sequence up to which all messages are older than that.
        pressed: also purge unexpired messages that every subscription has acknowledged, and messages of
            topics without a subscription.
    """
    if floors is not None and any(sequence_of(floor) > bounds.last_sequence for floor in floors.values()):
        # Those cursors are of a lost log: its server restarted, and the owner has not noticed yet.
        floors = None
    through, holder = bounds.last_sequence, 0
    for topic in topics:
        free = topic.log_floor
        if topic.retention is Retention.UNTIL_EXPIRE:
            free = max(free, expired_through.get(topic.period_ms, 0))
        if floors is not None and (topic.retention is Retention.UNTIL_ACK or pressed):
            floor = floors.get(topic.topic_id)
            if floor is not None:
                free = max(free, _whole_frames(floor))
            elif pressed:
                free = bounds.last_sequence
        if free < through:
            through, holder = free, topic.topic_id
    return PurgePoint(max(through, bounds.first_sequence - 1), holder)


def _whole_frames(floor: int) -> int:
    """Return the last sequence whose messages are all at or below ``floor``."""
    sequence = sequence_of(floor)
    return sequence if floor == end_of_sequence(sequence) else sequence - 1
