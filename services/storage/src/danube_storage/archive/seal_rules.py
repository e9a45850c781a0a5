"""When a bundle's log is sealed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from danube_common.cluster.records import Topic
from danube_common.log.port import LogBounds
from danube_common.model.strategy import Retention, StorageBackend
from danube_storage.archive.segment_plan import TopicRule

SEAL_AGE_S_MIN = 1.0
RETENTION_PARTS = 4
"""Retention deletes whole segments, so a segment spans at most this part of a topic's period."""


@dataclass(frozen=True, slots=True)
class SealRules:
    """The settings of the service.

    Attributes:
        seal_age_s: the longest time that a message waits in the log to be archived.
        seal_bytes_max: the most bytes of a log that are sealed at once.
        own_segment_bytes_min: a topic with fewer bytes in a log range shares a segment.
        replicas: the number of instances that keep each disk segment.
        store_away_s: how long a store may not answer until its segments are kept in another one.
    """

    seal_age_s: float = 600.0
    seal_bytes_max: int = 64 << 20
    own_segment_bytes_min: int = 256 << 10
    replicas: int = 1
    store_away_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SealLimits:
    """A bundle is sealed at ``bytes`` that are not archived, or when the oldest message is ``age_s`` old.

    It is also sealed when one topic fills a segment, which needs ``bytes_min``, the least segment size.
    """

    bytes: int
    age_s: float
    bytes_min: int = 0

    def due(self, bounds: LogBounds, now_ms: int) -> bool:
        """Return whether size or age is reached; ``bounds`` are those of what is not archived."""
        if bounds.last_sequence < bounds.first_sequence:
            return False
        return bounds.stored_bytes >= self.bytes or self.aged(bounds, now_ms)

    def aged(self, bounds: LogBounds, now_ms: int) -> bool:
        """Return whether the oldest message is old enough; then everything is sealed."""
        return now_ms - bounds.first_stored_ms >= self.age_s * 1000


def entry_bytes_max(segment_bytes: int) -> int:
    """Return the bytes of entries in a segment of this size; the rest is left for index and footer."""
    return segment_bytes - segment_bytes // 1024


def seal_limits(rules: SealRules, topics: Iterable[Topic]) -> SealLimits:
    """Return the limits by the largest segment size and the shortest period among a bundle's topics."""
    age_s = rules.seal_age_s
    segment_bytes = 0
    bytes_min = rules.seal_bytes_max
    for topic in topics:
        options = topic.strategy.reliable
        if options is None:
            continue
        segment_bytes = max(segment_bytes, options.segment_size_mb << 20)
        bytes_min = min(bytes_min, max(options.segment_size_mb, 1) << 20)
        if options.retention is Retention.UNTIL_EXPIRE:
            age_s = min(age_s, options.retention_period_s / RETENTION_PARTS)
    return SealLimits(
        min(segment_bytes or rules.seal_bytes_max, rules.seal_bytes_max),
        max(age_s, SEAL_AGE_S_MIN),
        bytes_min,
    )


def topic_rules(topics: Iterable[Topic]) -> Mapping[int, TopicRule]:
    """Return by topic id the rule of each reliable topic that is not kept in memory."""
    rules: dict[int, TopicRule] = {}
    for topic in topics:
        options = topic.strategy.reliable
        if options is not None and options.storage is not StorageBackend.MEMORY:
            size_bytes = max(options.segment_size_mb, 1) << 20
            rules[topic.topic_id] = TopicRule(options.storage, entry_bytes_max(size_bytes))
    return rules
