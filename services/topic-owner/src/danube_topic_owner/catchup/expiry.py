"""What of a topic is retained no longer, and how many messages that was (architecture D10). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.model.position import end_of_sequence, sequence_of
from danube_common.model.strategy import Retention


@dataclass(frozen=True, slots=True)
class SegmentSpan:
    """A part of a topic that is, or was, in one place.

    Attributes:
        first_position: no message of the topic in it is before.
        last_position: no message of the topic in it is after.
        gone: it is retained no longer.
        messages: how many it has of the topic; None if that is not catalogued.
        cut: where ``record`` is catalogued.
        record: the segment, while it exists.
    """

    first_position: int
    last_position: int
    gone: bool = True
    messages: int | None = None
    cut: ManifestEntry | None = None
    record: SegmentRecord | None = None


@dataclass(frozen=True, slots=True)
class RetentionGap:
    """Everything a topic had in ``pieces``, up to ``through``, is gone, with nothing retained before it."""

    through: int
    pieces: tuple[SegmentSpan, ...]


def gone_after(cuts: Manifest | None, topic: Topic, after: int, floor: int) -> RetentionGap | None:
    """What is gone right behind position ``after``, or None if what comes there is retained.

    Args:
        cuts: the bundle's catalogue; None for a bundle that has none (memory family). It must be
            as new as ``floor``.
        topic: whose messages.
        after: a position.
        floor: the log's first sequence.
    """
    pieces: list[SegmentSpan] = []
    if cuts is not None:
        for piece in _spans_after(cuts, topic, after):
            if not piece.gone:
                return RetentionGap(pieces[-1].last_position, tuple(pieces)) if pieces else None
            pieces.append(piece)
        after = max(after, end_of_sequence(cuts.archived_through) if cuts.archived_through else 0)
    if sequence_of(after + 1) < floor:
        pieces.append(SegmentSpan(after + 1, end_of_sequence(floor - 1)))
    return RetentionGap(pieces[-1].last_position, tuple(pieces)) if pieces else None


def next_gone(cuts: Manifest, topic: Topic, after: int, until: int) -> SegmentSpan | None:
    """The first piece of the topic that is gone and has something in positions ``after + 1 .. until``."""
    for piece in _spans_after(cuts, topic, after):
        if piece.first_position > until:
            return None
        if piece.gone:
            return piece
    return None


def first_retained(cuts: Manifest | None, topic: Topic, after: int, floor: int) -> int:
    """The greatest position up to which nothing of the topic behind ``after`` is retained."""
    stretch = gone_after(cuts, topic, after, floor)
    return stretch.through if stretch else after


def spans_of(cut: ManifestEntry, topic: Topic) -> list[SegmentSpan]:
    """What a cut holds, or held, of a topic, in order; a shared segment may hold nothing of it.

    Shared segments go when every topic in them lets them go: one that keeps its messages until they
    are acknowledged has lost nothing there.
    """
    options = topic.strategy.reliable
    spans = [
        SegmentSpan(
            record.first_position,
            record.last_position,
            gone=not record.retained,
            messages=None if record.topic_id == SHARED else record.messages,
            cut=cut,
            record=record,
        )
        for record in cut.segments_for(topic)
    ]
    own = [each for each in cut.deleted if each.topic_id == topic.topic_id]
    if own:
        spans += [
            SegmentSpan(each.first_position, each.last_position, messages=each.messages) for each in own
        ]
    elif all(span.messages is None for span in spans):
        shared = [each for each in cut.deleted if each.topic_id == SHARED]
        spans += [SegmentSpan(each.first_position, each.last_position) for each in shared]
        if options is not None and options.retention is Retention.UNTIL_ACK:
            spans = [span for span in spans if not span.gone]
    return sorted(spans, key=lambda span: span.first_position)


def _spans_after(cuts: Manifest, topic: Topic, after: int) -> Iterator[SegmentSpan]:
    oldest = cuts.first_sequence
    if oldest is None:
        return
    first = cuts.covering(oldest)
    if first is not None and first.before_position > after:
        yield SegmentSpan(after + 1, first.before_position)
        after = first.before_position
    cut = cuts.covering(sequence_of(after + 1)) or cuts.following(sequence_of(after + 1))
    while cut is not None:
        yield from (piece for piece in spans_of(cut, topic) if piece.last_position > after)
        cut = cuts.following(cut.first_sequence)
