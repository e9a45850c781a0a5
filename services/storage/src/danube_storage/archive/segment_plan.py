"""Which segments a log range is divided into. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from danube_common.archive.records import SHARED
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import TOPICS_MAX
from danube_storage.archive.log_range import LogRange, RangeSection

SEGMENTS_PER_ENTRY = 512
"""About the most segments of one manifest entry, whose record must stay small. Above it, more topics share
segments, and segments are larger."""


@dataclass(frozen=True, slots=True)
class TopicRule:
    """Where a topic is kept, and the most bytes of entries in one of its segments."""

    backend: StorageBackend
    segment_bytes_max: int


@dataclass(frozen=True)
class PlannedSegment:
    """One segment of a log range.

    Attributes:
        backend: where it is kept.
        topic_id: the one topic, or SHARED.
        sections: its content in log order; at least one section.
        bound_for: the backend that its topics ask for, if it waits for that on another one.
    """

    backend: StorageBackend
    topic_id: int
    sections: Sequence[RangeSection]
    bound_for: StorageBackend | None = None


def plan_segments(
    log_range: LogRange,
    rules: Mapping[int, TopicRule],
    *,
    own_bytes_min: int,
    topics_max: int = TOPICS_MAX,
    segments_aimed: int = SEGMENTS_PER_ENTRY,
) -> list[PlannedSegment]:
    """Return the segments of a log range: first those of one topic each, then the shared ones.

    Args:
        log_range: the range to divide.
        rules: by topic id; sections of topics without a rule are left out.
        own_bytes_min: a topic with as many bytes, or with a full segment by its rule, gets its own segments.
        topics_max: the most topics in one shared segment.
        segments_aimed: see SEGMENTS_PER_ENTRY.
    """
    least_bytes = log_range.body_bytes // segments_aimed
    own: list[PlannedSegment] = []
    shared: defaultdict[StorageBackend, list[list[RangeSection]]] = defaultdict(list)
    for topic_id, sections in log_range.by_topic.items():
        rule = rules.get(topic_id)
        if rule is None:
            continue
        topic_bytes = sum(section.entry_bytes for section in sections)
        segment_bytes = max(rule.segment_bytes_max, least_bytes)
        if topic_bytes < max(min(own_bytes_min, segment_bytes), least_bytes):
            shared[rule.backend].append(sections)
            continue
        own += (PlannedSegment(rule.backend, topic_id, part) for part in _split(sections, segment_bytes))
    for backend, topics in sorted(shared.items()):
        for start in range(0, len(topics), topics_max):
            together = [section for topic in topics[start : start + topics_max] for section in topic]
            together.sort(key=lambda section: section.first_position)
            own.append(PlannedSegment(backend, SHARED, together))
    return own


def _split(sections: Sequence[RangeSection], bytes_max: int) -> Iterator[Sequence[RangeSection]]:
    """Yield parts, each filled up to ``bytes_max``; a larger section is a part of its own."""
    start = taken_bytes = 0
    for number, section in enumerate(sections):
        if number > start and taken_bytes + section.entry_bytes > bytes_max:
            yield sections[start:number]
            start, taken_bytes = number, 0
        taken_bytes += section.entry_bytes
    yield sections[start:]
