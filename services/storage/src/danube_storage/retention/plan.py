"""Decides which segments of a bundle retention deletes. Pure.

A segment is deleted in two steps. First it is *marked*: no new read of it begins. After a delay its objects
are deleted, and its record becomes a `DeletedSegment`. A segment stays while anything is unknown: no owner
answered, a topic is not in the view yet, or a shared segment cannot be read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from danube_common.archive.records import SHARED, BundleArchive, DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.model.policies import Policies
from danube_common.model.strategy import ReliableOptions, Retention
from danube_common.segment.format import TopicRange

MIB = 1 << 20
SHARED_READS_MAX = 16
"""Shared segments whose tails are read in one pass, to find the topics that still need them."""
UNREADABLE_MS = 60_000
"""A shared segment that could not be read is skipped for this time."""


class Reason(StrEnum):
    """Why a segment is deleted."""

    ACKNOWLEDGED = "acknowledged"
    EXPIRED = "expired"
    SIZE = "size"
    TOPIC_DELETED = "topic-deleted"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a topic keeps its messages. ``bytes_max`` bounds its own segments; 0 means no bound."""

    retention: Retention
    period_ms: int
    bytes_max: int = 0


def rule_of(options: ReliableOptions, policies: Policies) -> Rule:
    """Return the rule of a reliable topic."""
    return Rule(options.retention, options.retention_period_s * 1000, policies.max_retained_mb * MIB)


@dataclass(frozen=True, slots=True)
class RetentionInput:
    """What the decisions depend on.

    Attributes:
        now_ms: wall clock.
        rule: returns a topic's rule by its id; None for an unknown topic.
        deleted_topics: the unknown topics that are certainly deleted; others may be new.
        floors: by topic id, the position up to which every subscription has acknowledged; topics without a
            subscription are absent. None while no owner answers.
    """

    now_ms: int
    rule: Callable[[int], Rule | None]
    deleted_topics: Collection[int] = ()
    floors: Mapping[int, int] | None = None

    def deletion_reason(self, topic_id: int, last_position: int, published_ms_max: int) -> Reason | None:
        """Return why the topic no longer needs messages up to ``last_position``; None if it needs them."""
        rule = self.rule(topic_id)
        if rule is None:
            return Reason.TOPIC_DELETED if topic_id in self.deleted_topics else None
        if rule.retention is Retention.UNTIL_EXPIRE:
            return Reason.EXPIRED if self.now_ms - published_ms_max >= rule.period_ms else None
        floor = self.floors.get(topic_id) if self.floors is not None else None
        return Reason.ACKNOWLEDGED if floor is not None and floor >= last_position else None


@dataclass(frozen=True, slots=True)
class EntrySegment:
    """A segment and its manifest entry."""

    entry: ManifestEntry
    segment: SegmentRecord


@dataclass(frozen=True, slots=True)
class Mark(EntrySegment):
    """A segment to be marked for deletion."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one pass; segments and entries are in log order.

    Attributes:
        marks: segments to mark.
        unread: shared segments whose tails must be read to decide by `shared_verdict`.
        deletions: marked segments whose delay has passed.
        compacts: the oldest entries, without segments for long enough: to be compacted and removed.
        leftovers: entries that were compacted but not removed yet.
        checkpoint_through: the log sequence through which offsets must be stored before more segments can be
            deleted; 0 if nothing waits for that.
    """

    marks: tuple[Mark, ...] = ()
    unread: tuple[EntrySegment, ...] = ()
    deletions: tuple[EntrySegment, ...] = ()
    compacts: tuple[ManifestEntry, ...] = ()
    leftovers: tuple[ManifestEntry, ...] = ()
    checkpoint_through: int = 0


@dataclass(frozen=True, slots=True)
class RetentionCache:
    """What a bundle's archiver remembers between passes; its loss only costs time.

    Attributes:
        holders: by the key of a shared segment, the range of a topic that still needs the segment.
        unreadable: by the key of a shared segment that could not be read, when to try again.
        emptied_ms: by first sequence, when an entry was first seen without segments.
    """

    holders: dict[str, TopicRange] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    emptied_ms: dict[int, int] = field(default_factory=dict)

    def note(self, entries: Sequence[ManifestEntry], now_ms: int) -> None:
        """Update for the present entries, and drop those that were removed."""
        empty = {entry.first_sequence for entry in entries if not entry.segments}
        for first in self.emptied_ms.keys() - empty:
            del self.emptied_ms[first]
        for first in empty:
            self.emptied_ms.setdefault(first, now_ms)
        present = {segment.key for entry in entries for segment in entry.segments if segment.retained}
        for key in self.holders.keys() - present:
            del self.holders[key]
        for key in [key for key, until_ms in self.unreadable.items() if until_ms <= now_ms]:
            del self.unreadable[key]


def plan(
    entries: Sequence[ManifestEntry],
    archive: BundleArchive,
    inputs: RetentionInput,
    cache: RetentionCache,
    *,
    forget_after_ms: int,
    shared_reads_max: int = SHARED_READS_MAX,
) -> Plan:
    """Return the steps of a pass over a bundle's ``entries``, oldest first, which ``cache`` has noted."""
    present = [entry for entry in entries if entry.first_sequence > archive.forgotten_through]
    due, checkpoint = _due(present, archive, inputs.now_ms)
    compacts, compact_checkpoint = _compactable(present, archive, inputs.now_ms - forget_after_ms, cache)
    return Plan(
        marks=tuple(_own_marks(present, inputs)),
        unread=tuple(_unread(present, inputs, cache))[:shared_reads_max],
        deletions=tuple(due),
        compacts=tuple(compacts),
        leftovers=tuple(entry for entry in entries if entry.first_sequence <= archive.forgotten_through),
        checkpoint_through=max(checkpoint, compact_checkpoint),
    )


def shared_verdict(
    segment: SegmentRecord, topics: Iterable[TopicRange], inputs: RetentionInput
) -> Reason | TopicRange:
    """Return why no topic needs a shared segment any more, or the topic that will probably need it longest.

    All its topics expire by the publish time of the whole segment, the only one that is recorded.
    """
    reasons = set[Reason]()
    holding: list[TopicRange] = []
    for topic in topics:
        reason = inputs.deletion_reason(topic.topic_id, topic.last_position, segment.published_ms_max)
        if reason is None:
            holding.append(topic)
        else:
            reasons.add(reason)
    if holding:
        return max(holding, key=lambda topic: (_period_ms(topic, inputs), -topic.topic_id))
    for reason in (Reason.EXPIRED, Reason.ACKNOWLEDGED):
        if reason in reasons:
            return reason
    return Reason.TOPIC_DELETED


def marked(entry: ManifestEntry, keys: Collection[str], delete_after_ms: int) -> ManifestEntry:
    """Return the entry with those segments marked that are retained and not quarantined."""
    return msgspec.structs.replace(
        entry,
        segments=tuple(
            msgspec.structs.replace(segment, delete_after_ms=delete_after_ms)
            if segment.key in keys and _deletable(segment)
            else segment
            for segment in entry.segments
        ),
    )


def with_deleted(entry: ManifestEntry, keys: Collection[str]) -> ManifestEntry:
    """Return the entry with the records of those segments replaced by `DeletedSegment` rows. Idempotent."""
    gone = tuple(
        DeletedSegment(s.topic_id, s.first_position, s.last_position, s.messages, s.size_bytes)
        for s in entry.segments
        if s.key in keys
    )
    return msgspec.structs.replace(
        entry,
        segments=tuple(segment for segment in entry.segments if segment.key not in keys),
        deleted=entry.deleted + gone,
    )


def _deletable(segment: SegmentRecord) -> bool:
    """Return whether a segment is neither marked nor quarantined."""
    return segment.retained and not segment.quarantined


def _own_marks(entries: Sequence[ManifestEntry], inputs: RetentionInput) -> Iterable[Mark]:
    kept: dict[int, list[EntrySegment]] = defaultdict(list)
    marks: list[Mark] = []
    for entry in entries:
        for segment in entry.segments:
            if segment.topic_id == SHARED or not _deletable(segment):
                continue
            reason = inputs.deletion_reason(segment.topic_id, segment.last_position, segment.published_ms_max)
            if reason is None:
                kept[segment.topic_id].append(EntrySegment(entry, segment))
            else:
                marks.append(Mark(entry, segment, reason))
    for topic_id, segments in kept.items():
        rule = inputs.rule(topic_id)
        if rule is not None and rule.bytes_max:
            marks += (
                Mark(each.entry, each.segment, Reason.SIZE) for each in _beyond(segments, rule.bytes_max)
            )
    return sorted(marks, key=lambda mark: mark.segment.first_position)


def _beyond(segments: list[EntrySegment], bytes_max: int) -> list[EntrySegment]:
    """Return the oldest segments, without which the rest fits ``bytes_max``. The newest one stays."""
    left = sum(each.segment.size_bytes for each in segments)
    beyond = []
    for each in segments[:-1]:
        if left <= bytes_max:
            break
        left -= each.segment.size_bytes
        beyond.append(each)
    return beyond


def _unread(
    entries: Sequence[ManifestEntry], inputs: RetentionInput, cache: RetentionCache
) -> Iterable[EntrySegment]:
    for entry in entries:
        for segment in entry.segments:
            if segment.topic_id != SHARED or not _deletable(segment) or segment.key in cache.unreadable:
                continue
            holder = cache.holders.get(segment.key)
            if holder is None or inputs.deletion_reason(
                holder.topic_id, holder.last_position, segment.published_ms_max
            ):
                yield EntrySegment(entry, segment)


def _due(
    entries: Sequence[ManifestEntry], archive: BundleArchive, now_ms: int
) -> tuple[list[EntrySegment], int]:
    """Return the marked segments to delete, and the checkpoint that the others wait for, or 0.

    Only a shared segment's tail has the offsets of its topics, so they must be stored before it is deleted.
    """
    due = []
    checkpoint = 0
    for entry in entries:
        for segment in entry.segments:
            if segment.retained or segment.quarantined or segment.delete_after_ms > now_ms:
                continue
            if segment.topic_id == SHARED and entry.last_sequence > archive.offsets_through:
                checkpoint = entry.last_sequence
            else:
                due.append(EntrySegment(entry, segment))
    return due, checkpoint


def _compactable(
    entries: Sequence[ManifestEntry], archive: BundleArchive, emptied_before_ms: int, cache: RetentionCache
) -> tuple[list[ManifestEntry], int]:
    """Return the oldest entries without segments, never the newest; and the checkpoint as in `_due`."""
    compactable: list[ManifestEntry] = []
    for entry in entries[:-1]:
        emptied_ms = cache.emptied_ms.get(entry.first_sequence)
        if entry.segments or emptied_ms is None or emptied_ms > emptied_before_ms:
            break
        if entry.last_sequence > archive.offsets_through:
            return compactable, entry.last_sequence
        compactable.append(entry)
    return compactable, 0


def _period_ms(topic: TopicRange, inputs: RetentionInput) -> int:
    rule = inputs.rule(topic.topic_id)
    return rule.period_ms if rule is not None and rule.retention is Retention.UNTIL_EXPIRE else 0
