"""Reading a range of a bundle's log and splitting it into the sections of its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from danube_common.errors import CorruptData, LogUnavailable
from danube_common.log.port import BundleLog, LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.segment.format import ENTRY_HEAD_BYTES
from danube_common.tracing.context import TraceContext
from danube_common.tracing.marks import MARKS_MAX, parse_marks
from danube_common.wire.frame import ProducerBatch, RawSection, producer_batch_of, split_frame

READ_BYTES = 8 << 20
"""About how many bytes one read of the log returns."""
FRAMES_PER_READ_MAX = 4096
SECTIONS_MAX = 1 << 17
"""About how many sections one log range has: it ends behind the read that reaches this."""


@dataclass(frozen=True, slots=True)
class RangeSection:
    """One section and where it is in the log.

    Attributes:
        stored_ms: when the log stored its frame.
        batch: what an idempotent producer has stored with the frame, which has no other section then.
        traces: the marks of its frame.
    """

    sequence: int
    number: int
    stored_ms: int
    raw: RawSection
    batch: ProducerBatch | None = None
    traces: str = ""

    @property
    def first_position(self) -> int:
        """The position of its first message."""
        return position_of(self.sequence, self.number, 0)

    @property
    def last_position(self) -> int:
        """The position of its last message."""
        return self.first_position + self.raw.messages - 1

    @property
    def entry_bytes(self) -> int:
        """Its size in a segment."""
        return ENTRY_HEAD_BYTES + len(self.raw.body)


class CorruptFrame(CorruptData):
    """The frame in the log entry ``entry`` cannot be decoded."""

    def __init__(self, entry: LogEntry, reason: str) -> None:
        super().__init__(f"frame {entry.sequence} of the log: {reason}")
        self.entry = entry


@dataclass(frozen=True)
class LogRange:
    """The frames of the log from ``first_sequence`` to ``last_sequence``.

    Attributes:
        sections: in log order.
        missing: the number of sequences that the log has lost.
    """

    first_sequence: int
    last_sequence: int
    sections: Sequence[RangeSection]
    missing: int

    @property
    def body_bytes(self) -> int:
        """The size of all section bodies."""
        return sum(len(section.raw.body) for section in self.sections)

    @cached_property
    def by_topic(self) -> Mapping[int, list[RangeSection]]:
        """The sections by topic id, in log order; topics in the order of their first section."""
        found: dict[int, list[RangeSection]] = {}
        for section in self.sections:
            found.setdefault(section.raw.topic_id, []).append(section)
        return found

    def traces(self) -> list[TraceContext]:
        """Return the recorded traces of its messages, MARKS_MAX at most."""
        texts = dict.fromkeys(section.traces for section in self.sections if section.traces)
        marks = (mark for text in texts for mark in parse_marks(text))
        return [mark.context for mark in islice(marks, MARKS_MAX)]

    def whole_segments(self, segment_bytes: int, topic_id: int | None = None) -> LogRange:
        """Return the frames that fill segments of ``segment_bytes``; the whole range if none is full.

        Only the entries of ``topic_id`` count, or those of all topics. The frames behind the last full
        segment are left for the next range, so that segments of busy topics are full. A range with missing
        frames is returned whole.
        """
        if self.missing:
            return self
        last = taken_bytes = 0
        for section in self.sections:
            if topic_id not in (None, section.raw.topic_id):
                continue
            if taken_bytes and taken_bytes + section.entry_bytes > segment_bytes:
                last, taken_bytes = section.sequence - 1, 0
            taken_bytes += section.entry_bytes
        if last < self.first_sequence:
            return self
        kept = [section for section in self.sections if section.sequence <= last]
        return replace(self, last_sequence=last, sections=kept)


async def read_range(
    log: BundleLog, bundle: Bundle, first_sequence: int, last_sequence: int, *, bytes_max: int
) -> LogRange:
    """Read from ``first_sequence`` up to ``last_sequence``, or less if a bound is reached.

    Args:
        log: the log to read from.
        bundle: the bundle whose log is read.
        first_sequence: where the range begins, also if the log has lost that frame.
        last_sequence: where the range ends at most; must be in the log.
        bytes_max: about how many bytes of frames, one frame at least; SECTIONS_MAX is a bound too.

    Raises:
        CorruptFrame: the first frame of the range is corrupt. A later corrupt frame ends the range before it.
        LogUnavailable: the log does not answer, or it ends before ``last_sequence``.
    """
    sections: list[RangeSection] = []
    frames = taken_bytes = 0
    reached = first_sequence - 1

    def read_on(reached: int, taken_bytes: int) -> asyncio.Task[list[LogEntry]]:
        bytes_wanted = min(READ_BYTES, bytes_max - taken_bytes)
        read = log.read(bundle, reached + 1, frames_max=FRAMES_PER_READ_MAX, bytes_max=bytes_wanted)
        return asyncio.create_task(read, name=f"log range of {bundle}")

    reading = read_on(reached, taken_bytes) if reached < last_sequence else None
    try:
        while reading is not None:
            entries = [entry for entry in await reading if entry.sequence <= last_sequence]
            if not entries:
                raise LogUnavailable(f"the log of {bundle} ends before {last_sequence}")
            taken_bytes += sum(len(entry.frame) for entry in entries)
            before, reached = reached, entries[-1].sequence
            more = reached < last_sequence and taken_bytes < bytes_max
            # The next read runs while the entries of this one are split.
            reading = read_on(reached, taken_bytes) if more else None
            found, failure = await asyncio.to_thread(_split, entries)
            for parts in found:
                sections += parts
            frames += len(found)
            if failure is not None:
                if not frames:
                    raise failure
                reached = entries[len(found) - 1].sequence if found else before
                break
            if len(sections) >= SECTIONS_MAX:
                break
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return LogRange(first_sequence, reached, sections, reached - first_sequence + 1 - frames)


def _split(entries: Iterable[LogEntry]) -> tuple[list[list[RangeSection]], CorruptFrame | None]:
    """Return the sections of each frame up to the first corrupt frame, and the error of that frame."""
    found: list[list[RangeSection]] = []
    for entry in entries:
        try:
            parts = split_frame(entry.frame)
        except CorruptData as error:
            return found, CorruptFrame(entry, str(error))
        batch = producer_batch_of(entry.frame)
        found.append(
            [
                RangeSection(entry.sequence, number, entry.stored_ms, raw, batch, entry.traces)
                for number, raw in enumerate(parts)
            ]
        )
    return found, None
