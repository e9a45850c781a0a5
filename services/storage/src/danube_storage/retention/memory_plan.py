"""How much of a memory bundle's log may go: it has no segments, its log is all there is. Decided without I/O.

The topics of a bundle share one log, so it goes as far as the topic lets it that keeps the most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from danube_common.log.port import LogBounds
from danube_common.model.position import end_of_sequence, sequence_of
from danube_common.model.strategy import Retention

PRESSURE = 0.75
"""Part of its bound from which on a log gives up what only the calendar, or nobody, keeps."""


@dataclass(frozen=True, slots=True)
class MemoryTopic:
    """``log_floor``: no message of the topic is at or below this sequence."""

    topic_id: int
    log_floor: int
    retention: Retention
    period_ms: int


def under_pressure(bounds: LogBounds, bytes_max: int) -> bool:
    return bounds.stored_bytes > PRESSURE * bytes_max


def purgeable_through(
    bounds: LogBounds,
    topics: Iterable[MemoryTopic],
    floors: Mapping[int, int] | None,
    expired_through: Mapping[int, int],
    *,
    pressed: bool,
) -> int:
    """The log sequence through which nobody has a claim; below the log's first if there is nothing.

    Args:
        bounds: of the log.
        topics: the bundle's, all of them as of after ``bounds`` were read: a message of a topic that is
            missing here goes.
        floors: by topic id, the position up to which every subscription has acknowledged; topics without a
            subscription are absent. None while no owner answers.
        expired_through: by period in ms, the sequence up to which everything is older than that.
        pressed: whether also goes what every subscription has, and what no subscription waits for.
    """
    if floors is not None and any(sequence_of(floor) > bounds.last_sequence for floor in floors.values()):
        # Those cursors are of a log that is no more: the server lost it, and the owner does not know yet.
        floors = None
    through = bounds.last_sequence
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
        through = min(through, free)
    return max(through, bounds.first_sequence - 1)


def _whole_frames(floor: int) -> int:
    """The last sequence of which no message is above ``floor``."""
    sequence = sequence_of(floor)
    return sequence if floor == end_of_sequence(sequence) else sequence - 1
