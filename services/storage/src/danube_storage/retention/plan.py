"""What of a bundle's archive may go: decided from what is known, without I/O (architecture D10).

A segment goes in two steps. First it is *marked*: from then on nobody begins to read it. When its delay has
passed, its objects are deleted, and then its record becomes a row of what was deleted. Whatever is not known
(no owner answered, a topic that this view has not seen yet, a shared segment that cannot be read) keeps it.
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
"""Shared segments that one pass asks to be read: it is only to find out who still holds on to them."""
UNREADABLE_MS = 60_000
"""One that could not be read stands back for so long, so that those behind it get their turn."""


class Reason(StrEnum):
    """Why a segment goes."""

    ACKNOWLEDGED = "acknowledged"
    EXPIRED = "expired"
    SIZE = "size"
    TOPIC_DELETED = "topic-deleted"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a topic keeps its messages. ``bytes_max`` is of its own segments; 0 is no bound."""

    retention: Retention
    period_ms: int
    bytes_max: int = 0


def rule_of(options: ReliableOptions, policies: Policies) -> Rule:
    return Rule(options.retention, options.retention_period_s * 1000, policies.max_retained_mb * MIB)


@dataclass(frozen=True, slots=True)
class RetentionInput:
    """What the decisions rest on.

    Attributes:
        now_ms: wall clock.
        rule: by topic id; None for what is no topic, as far as is known.
        gone: ids that certainly are no topic any more. An id without a rule that is not among them may be
            a topic that is not seen yet.
        floors: by topic id, the position up to which every subscription has acknowledged; topics without a
            subscription are absent. None while no owner answers.
    """

    now_ms: int
    rule: Callable[[int], Rule | None]
    gone: Collection[int] = ()
    floors: Mapping[int, int] | None = None

    def deletion_reason(self, topic_id: int, last_position: int, published_ms_max: int) -> Reason | None:
        """Why the topic has no more use for messages up to ``last_position``, or None if it has."""
        rule = self.rule(topic_id)
        if rule is None:
            return Reason.TOPIC_DELETED if topic_id in self.gone else None
        if rule.retention is Retention.UNTIL_EXPIRE:
            return Reason.EXPIRED if self.now_ms - published_ms_max >= rule.period_ms else None
        floor = self.floors.get(topic_id) if self.floors is not None else None
        return Reason.ACKNOWLEDGED if floor is not None and floor >= last_position else None


@dataclass(frozen=True, slots=True)
class Mark:
    cut: ManifestEntry
    segment: SegmentRecord
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order.

    Attributes:
        marks: segments that may go, oldest first.
        unread: shared segments of which it is not known who holds on to them; `shared_verdict` tells
            with what their tails say.
        deletions: marked segments whose delay has passed.
        compacts: the oldest cuts, with nothing left in them for long enough: to be compacted and forgotten.
        leftovers: cuts that were compacted already and not yet forgotten.
        checkpoint_through: offsets must be written through this log sequence before more can go; 0 if
            nothing waits for that.
    """

    marks: tuple[Mark, ...] = ()
    unread: tuple[tuple[ManifestEntry, SegmentRecord], ...] = ()
    deletions: tuple[tuple[ManifestEntry, SegmentRecord], ...] = ()
    compacts: tuple[ManifestEntry, ...] = ()
    leftovers: tuple[ManifestEntry, ...] = ()
    checkpoint_through: int = 0


@dataclass(frozen=True, slots=True)
class RetentionCache:
    """What a bundle's archiver remembers between passes; losing it only costs time.

    Attributes:
        holders: by the key of a shared segment, a topic that held on to it, as a range of its messages there.
        unreadable: by the key of a shared segment that could not be read, when to try again.
        emptied_ms: by first sequence, when a cut was first seen with nothing left in it.
    """

    holders: dict[str, TopicRange] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    emptied_ms: dict[int, int] = field(default_factory=dict)

    def note(self, cuts: Sequence[ManifestEntry], now_ms: int) -> None:
        """Take in the cuts of today, and forget those that are no more."""
        empty = {cut.first_sequence for cut in cuts if not cut.segments}
        for first in self.emptied_ms.keys() - empty:
            del self.emptied_ms[first]
        for first in empty:
            self.emptied_ms.setdefault(first, now_ms)
        present = {segment.key for cut in cuts for segment in cut.segments if segment.retained}
        for key in self.holders.keys() - present:
            del self.holders[key]
        for key in [key for key, until_ms in self.unreadable.items() if until_ms <= now_ms]:
            del self.unreadable[key]


def plan(
    cuts: Sequence[ManifestEntry],
    archive: BundleArchive,
    facts: RetentionInput,
    memory: RetentionCache,
    *,
    forget_after_ms: int,
    shared_reads_max: int = SHARED_READS_MAX,
) -> Plan:
    """``cuts`` are the bundle's, oldest first; ``memory`` must have noted them."""
    present = [cut for cut in cuts if cut.first_sequence > archive.forgotten_through]
    due, checkpoint = _due(present, archive, facts.now_ms)
    compacts, fold_checkpoint = _compactable(present, archive, facts.now_ms - forget_after_ms, memory)
    return Plan(
        marks=tuple(_own_marks(present, facts)),
        unread=tuple(_unread(present, facts, memory))[:shared_reads_max],
        deletions=tuple(due),
        compacts=tuple(compacts),
        leftovers=tuple(cut for cut in cuts if cut.first_sequence <= archive.forgotten_through),
        checkpoint_through=max(checkpoint, fold_checkpoint),
    )


def shared_verdict(
    segment: SegmentRecord, topics: Iterable[TopicRange], facts: RetentionInput
) -> Reason | TopicRange:
    """Whether all topics of a shared segment let it go; else the one that will probably hold on the longest.

    The catalogue knows the publish times of the whole segment only, so none of its topics expires earlier.
    """
    reasons = set[Reason]()
    holding: list[TopicRange] = []
    for topic in topics:
        reason = facts.deletion_reason(topic.topic_id, topic.last_position, segment.published_ms_max)
        if reason is None:
            holding.append(topic)
        else:
            reasons.add(reason)
    if holding:
        return max(holding, key=lambda topic: (_patience_ms(topic, facts), -topic.topic_id))
    for reason in (Reason.EXPIRED, Reason.ACKNOWLEDGED):
        if reason in reasons:
            return reason
    return Reason.TOPIC_DELETED


def marked(cut: ManifestEntry, keys: Collection[str], delete_after_ms: int) -> ManifestEntry:
    """The cut with those segments marked that are still retained and sound."""
    return msgspec.structs.replace(
        cut,
        segments=tuple(
            msgspec.structs.replace(segment, delete_after_ms=delete_after_ms)
            if segment.key in keys and _sound(segment)
            else segment
            for segment in cut.segments
        ),
    )


def without(cut: ManifestEntry, keys: Collection[str]) -> ManifestEntry:
    """The cut with rows in the place of those segments, whose objects are no more. Idempotent."""
    gone = tuple(
        DeletedSegment(s.topic_id, s.first_position, s.last_position, s.messages, s.size_bytes)
        for s in cut.segments
        if s.key in keys
    )
    return msgspec.structs.replace(
        cut,
        segments=tuple(segment for segment in cut.segments if segment.key not in keys),
        deleted=cut.deleted + gone,
    )


def _sound(segment: SegmentRecord) -> bool:
    """Retention touches it: it is retained, and nobody doubts its content."""
    return segment.retained and not segment.quarantined


def _own_marks(cuts: Sequence[ManifestEntry], facts: RetentionInput) -> Iterable[Mark]:
    kept: dict[int, list[tuple[ManifestEntry, SegmentRecord]]] = defaultdict(list)
    marks: list[Mark] = []
    for cut in cuts:
        for segment in cut.segments:
            if segment.topic_id == SHARED or not _sound(segment):
                continue
            reason = facts.deletion_reason(segment.topic_id, segment.last_position, segment.published_ms_max)
            if reason is None:
                kept[segment.topic_id].append((cut, segment))
            else:
                marks.append(Mark(cut, segment, reason))
    for topic_id, segments in kept.items():
        rule = facts.rule(topic_id)
        if rule is not None and rule.bytes_max:
            marks += (Mark(*one, Reason.SIZE) for one in _beyond(segments, rule.bytes_max))
    return sorted(marks, key=lambda mark: mark.segment.first_position)


def _beyond(
    segments: list[tuple[ManifestEntry, SegmentRecord]], bytes_max: int
) -> list[tuple[ManifestEntry, SegmentRecord]]:
    """The oldest ones without which the rest keeps to ``bytes_max``; the newest one always stays."""
    left = sum(segment.size_bytes for _, segment in segments)
    beyond = []
    for cut, segment in segments[:-1]:
        if left <= bytes_max:
            break
        left -= segment.size_bytes
        beyond.append((cut, segment))
    return beyond


def _unread(
    cuts: Sequence[ManifestEntry], facts: RetentionInput, memory: RetentionCache
) -> Iterable[tuple[ManifestEntry, SegmentRecord]]:
    for cut in cuts:
        for segment in cut.segments:
            if segment.topic_id != SHARED or not _sound(segment) or segment.key in memory.unreadable:
                continue
            holder = memory.holders.get(segment.key)
            if holder is None or facts.deletion_reason(
                holder.topic_id, holder.last_position, segment.published_ms_max
            ):
                yield cut, segment


def _due(
    cuts: Sequence[ManifestEntry], archive: BundleArchive, now_ms: int
) -> tuple[list[tuple[ManifestEntry, SegmentRecord]], int]:
    """Marked segments to delete, and the sequence that offsets must be written through for the others.

    A shared segment's tail is the only place where the offsets of its topics stand.
    """
    due = []
    checkpoint = 0
    for cut in cuts:
        for segment in cut.segments:
            if segment.retained or segment.quarantined or segment.delete_after_ms > now_ms:
                continue
            if segment.topic_id == SHARED and cut.last_sequence > archive.offsets_through:
                checkpoint = cut.last_sequence
            else:
                due.append((cut, segment))
    return due, checkpoint


def _compactable(
    cuts: Sequence[ManifestEntry], archive: BundleArchive, emptied_before_ms: int, memory: RetentionCache
) -> tuple[list[ManifestEntry], int]:
    """The oldest cuts with nothing left, never the newest one; and as `_due` what they wait for."""
    foldable: list[ManifestEntry] = []
    for cut in cuts[:-1]:
        emptied_ms = memory.emptied_ms.get(cut.first_sequence)
        if cut.segments or emptied_ms is None or emptied_ms > emptied_before_ms:
            break
        if cut.last_sequence > archive.offsets_through:
            return foldable, cut.last_sequence
        foldable.append(cut)
    return foldable, 0


def _patience_ms(topic: TopicRange, facts: RetentionInput) -> int:
    rule = facts.rule(topic.topic_id)
    return rule.period_ms if rule is not None and rule.retention is Retention.UNTIL_EXPIRE else 0
