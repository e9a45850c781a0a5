"""Offsets of a bundle's messages: each counts the messages of its topic that are before it. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from danube_common.model.position import index_of, position_of
from danube_common.wire.frame import RawSection, Section

ROWS_KEPT_MAX: Final = 1_000_000
"""Sections of the log whose offsets are known. Beyond it those that nobody is about to read are forgotten,
and counted again when somebody reads there."""


class CountedFrame(NamedTuple):
    """A frame of the log, and (topic id, messages) of each of its sections."""

    sequence: int
    sections: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, sequence: int, sections: Sequence[Section | RawSection]) -> CountedFrame:
        """Count the messages of a frame."""
        return cls(
            sequence,
            tuple(
                [
                    (each.topic_id, len(each) if isinstance(each, Section) else each.messages)
                    for each in sections
                ]
            ),
        )


class LogOffsets:
    """The offset of each section in a range of the log, which grows at both ends.

    Attributes:
        first: the first sequence of the range; ``last`` + 1 if the range is empty.
        last: the last one: ``totals`` are the messages up to it.
        complete: whether totals counted every message; if not, offsets are lower bounds.
        changed: topics whose totals have changed since this was emptied.
    """

    def __init__(self) -> None:
        self.first = 1
        self.last = 0
        self.complete = True
        self.totals: dict[int, int] = {}
        self.changed: set[int] = set()
        self.rows = 0
        self._rows: dict[int, tuple[array[int], array[int]]] = {}
        """Of each topic the positions and the offsets of the first messages of sections."""

    def start(self, last: int, totals: Mapping[int, int]) -> None:
        """Begin with an empty range behind ``last``; ``totals`` are the messages of each topic up to it."""
        self.first, self.last = last + 1, last
        self.totals = dict(totals)
        self._rows.clear()
        self.rows = 0

    def append(self, frame: CountedFrame) -> None:
        """Add the next frame. Sequences between the last one and this hold no messages, or are gone."""
        if frame.sequence <= self.last:
            return
        self.last = frame.sequence
        for number, (topic_id, messages) in enumerate(frame.sections):
            positions, offsets = self._rows_of(topic_id)
            total = self.totals.get(topic_id, 0)
            positions.append(position_of(frame.sequence, number, 0))
            offsets.append(total)
            self.totals[topic_id] = total + messages
            self.changed.add(topic_id)
        self.rows += len(frame.sections)

    def prepend(self, frames: Iterable[CountedFrame], first: int) -> None:
        """Add the frames before the range, ascending; they are all that is left from ``first`` on."""
        found: dict[int, tuple[array[int], array[int]]] = {}
        for sequence, sections in frames:
            if sequence < self.first:
                for number, (topic_id, messages) in enumerate(sections):
                    positions, counts = found.setdefault(topic_id, (array("Q"), array("Q")))
                    positions.append(position_of(sequence, number, 0))
                    counts.append(messages)
        for topic_id, (positions, counts) in found.items():
            known_positions, known_offsets = self._rows_of(topic_id)
            offset = known_offsets[0] if known_offsets else self.totals.get(topic_id, 0)
            for at in range(len(counts) - 1, -1, -1):
                offset = max(offset - counts[at], 0)
                counts[at] = offset
            known_positions[:0] = positions
            known_offsets[:0] = counts
            self.rows += len(positions)
        self.first = min(self.first, first)

    def of(self, topic_id: int, position: int) -> int:
        """Return the offset of a message in the range. Raises LookupError if its section is not known."""
        positions, offsets = self._rows[topic_id]
        start = position - index_of(position)
        at = bisect_right(positions, start) - 1
        if at < 0 or positions[at] != start:
            raise LookupError(f"position {position} of topic {topic_id} is not in the counted range")
        return offsets[at] + position - start

    def count_after(self, topic_id: int, position: int) -> int:
        """Return how many messages of a topic are behind a position, without those before the range."""
        if (rows := self._rows.get(topic_id)) is None:
            return 0
        positions, offsets = rows
        total, at = self.totals[topic_id], bisect_right(positions, position) - 1
        if at < 0:
            return total - offsets[0]
        end = offsets[at + 1] if at + 1 < len(offsets) else total
        return total - min(offsets[at] + position - positions[at] + 1, end)

    def forget_before(self, sequence: int) -> None:
        """Forget the frames before a sequence; totals stay."""
        if sequence <= self.first:
            return
        self.first = min(sequence, self.last + 1)
        start = position_of(self.first, 0, 0)
        for topic_id, (positions, offsets) in list(self._rows.items()):
            gone = bisect_left(positions, start)
            if gone == len(positions):
                del self._rows[topic_id]
            elif gone:
                del positions[:gone], offsets[:gone]
            self.rows -= gone

    def forget_topic(self, topic_id: int) -> None:
        """Forget a topic that was deleted."""
        self.rows -= len(self._rows.pop(topic_id, ((), ()))[0])
        self.totals.pop(topic_id, None)
        self.changed.discard(topic_id)

    def _rows_of(self, topic_id: int) -> tuple[array[int], array[int]]:
        rows = self._rows.get(topic_id)
        if rows is None:
            rows = self._rows[topic_id] = (array("Q"), array("Q"))
        return rows
