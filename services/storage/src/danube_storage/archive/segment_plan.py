"""Which segments a cut consists of. Pure: sections in, plan out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from danube_common.archive.records import SHARED
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import TOPICS_MAX
from danube_storage.archive.log_range import LogRange, RangeSection

SEGMENTS_PER_CUT = 512
"""A cut's record must stay small: topics get segments of their own, and segments are split, only where
that makes no more than about this many."""


@dataclass(frozen=True, slots=True)
class TopicRule:
    """How a topic is kept; its segments take ``segment_bytes_max`` of entries at most."""

    backend: StorageBackend
    segment_bytes_max: int


@dataclass(frozen=True)
class PlannedSegment:
    """One segment of a cut.

    Attributes:
        backend: where it is kept.
        topic_id: SHARED or the one topic.
        sections: what it holds, in log order; at least one.
    """

    backend: StorageBackend
    topic_id: int
    sections: Sequence[RangeSection]


def plan_segments(
    log_range: LogRange,
    rules: Mapping[int, TopicRule],
    *,
    own_bytes_min: int,
    topics_max: int = TOPICS_MAX,
    segments_aimed: int = SEGMENTS_PER_CUT,
) -> list[PlannedSegment]:
    """The segments of a cut: first those of one topic each, then the shared ones.

    Args:
        log_range: what is cut.
        rules: by topic id; the sections of other topics are left out.
        own_bytes_min: a topic with as much, or with a whole segment by its rule, gets segments of its own.
        topics_max: topics in one shared segment.
        segments_aimed: see SEGMENTS_PER_CUT.
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
            together.sort(key=_place)
            own.append(PlannedSegment(backend, SHARED, together))
    return own


def _split(sections: Sequence[RangeSection], bytes_max: int) -> Iterator[Sequence[RangeSection]]:
    """Parts filled one after the other up to ``bytes_max``; a section that is larger stands alone."""
    start = taken_bytes = 0
    for number, section in enumerate(sections):
        if number > start and taken_bytes + section.entry_bytes > bytes_max:
            yield sections[start:number]
            start, taken_bytes = number, 0
        taken_bytes += section.entry_bytes
    yield sections[start:]


def _place(section: RangeSection) -> tuple[int, int]:
    return section.sequence, section.number
