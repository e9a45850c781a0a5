"""Finds which messages of a topic are no longer retained in the log or the archive. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.model.position import end_of_sequence, sequence_of
from danube_common.model.strategy import Retention


@dataclass(frozen=True, slots=True)
class SegmentSpan:
    """The positions between which one segment holds, or held, messages of a topic.

    Attributes:
        first_position: no message of the topic in the span is before it.
        last_position: no message of the topic in the span is after it.
        gone: whether the segment is no longer retained.
        messages: how many messages of the topic the span has; 0 if the manifest does not tell, as for
            shared segments.
    """

    first_position: int
    last_position: int
    gone: bool = True
    messages: int = 0


@dataclass(frozen=True, slots=True)
class RetentionGap:
    """Positions of a topic, up to ``through``, of which nothing is retained; ``spans`` lie in it."""

    through: int
    spans: tuple[SegmentSpan, ...]

    def messages_after(self, position: int) -> int:
        """A lower bound of the topic's messages that the gap had behind ``position``.

        Counts the segments of the topic's own that begin behind ``position``. Messages of shared segments,
        of the segment around ``position``, and of a log that was purged before it was archived are unknown.
        """
        return sum(span.messages for span in self.spans if span.first_position > position)


def gone_after(manifest: Manifest | None, topic: Topic, after: int, floor: int) -> RetentionGap | None:
    """The gap that begins right behind position ``after``; None if the next position is retained.

    Args:
        manifest: of the topic's bundle, as new as ``floor``; None for a bundle of the memory family.
        topic: whose messages.
        after: a position.
        floor: the first sequence of the log.
    """
    spans: list[SegmentSpan] = []
    if manifest is not None:
        for span in _spans_after(manifest, topic, after):
            if not span.gone:
                return RetentionGap(spans[-1].last_position, tuple(spans)) if spans else None
            spans.append(span)
        after = max(after, end_of_sequence(manifest.archived_through) if manifest.archived_through else 0)
    if sequence_of(after + 1) < floor:
        spans.append(SegmentSpan(after + 1, end_of_sequence(floor - 1)))
    return RetentionGap(spans[-1].last_position, tuple(spans)) if spans else None


def next_gone(manifest: Manifest, topic: Topic, after: int, until: int) -> SegmentSpan | None:
    """The first span of the topic that is gone and has positions in ``after + 1 .. until``."""
    for span in _spans_after(manifest, topic, after):
        if span.first_position > until:
            return None
        if span.gone:
            return span
    return None


def first_retained(manifest: Manifest | None, topic: Topic, after: int, floor: int) -> int:
    """The mark-delete before the oldest message behind ``after`` that may be retained."""
    gap = gone_after(manifest, topic, after, floor)
    return gap.through if gap else after


def spans_of(entry: ManifestEntry, topic: Topic) -> list[SegmentSpan]:
    """What a manifest entry holds, or held, of a topic, in log order.

    A shared segment may hold nothing of the topic. A shared segment is deleted only when every topic in
    it permits that, so a topic with retention ``UNTIL_ACK`` loses nothing with a shared segment.
    """
    found = entry.segments_for(topic)
    own = [each for each in entry.deleted if each.topic_id == topic.topic_id]
    shared = not own and all(record.topic_id == SHARED for record in found)
    # Shared segments of one backend do not overlap: a deleted one that does was of another backend.
    deleted = [
        each
        for each in entry.deleted
        if each.topic_id == SHARED
        and all(
            each.last_position < record.first_position or record.last_position < each.first_position
            for record in found
        )
    ]
    segments: list[SegmentRecord | DeletedSegment] = [*found, *(deleted if shared else own)]
    spans = [
        SegmentSpan(
            each.first_position,
            each.last_position,
            gone=not (isinstance(each, SegmentRecord) and each.retained),
            messages=0 if shared else each.messages,
        )
        for each in segments
    ]
    options = topic.strategy.reliable
    if shared and options is not None and options.retention is Retention.UNTIL_ACK:
        spans = [span for span in spans if not span.gone]
    return sorted(spans, key=lambda span: span.first_position)


def _spans_after(manifest: Manifest, topic: Topic, after: int) -> Iterator[SegmentSpan]:
    oldest = next(manifest.from_sequence(0), None)
    if oldest is not None and oldest.before_position > after:
        yield SegmentSpan(after + 1, oldest.before_position)
        after = oldest.before_position
    for entry in manifest.from_sequence(sequence_of(after + 1)):
        yield from (span for span in spans_of(entry, topic) if span.last_position > after)
