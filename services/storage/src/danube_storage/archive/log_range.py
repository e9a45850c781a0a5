"""A log_range of a bundle's log, read whole and taken apart into the sections of its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from danube_common.errors import CorruptData, LogUnavailable
from danube_common.log.port import BundleLog, LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.segment.format import ENTRY_HEAD_BYTES
from danube_common.wire.frame import RawSection, split_frame

READ_BYTES = 8 << 20
"""About how much is asked of the log at once."""
FRAMES_PER_READ_MAX = 4096
SECTIONS_MAX = 1 << 17
"""Sections in one log_range, about: it ends behind the frame that reaches this."""


@dataclass(frozen=True, slots=True)
class RangeSection:
    """One section where it lay in the log; ``stored_ms`` is when the log stored its frame."""

    sequence: int
    number: int
    stored_ms: int
    raw: RawSection

    @property
    def first_position(self) -> int:
        return position_of(self.sequence, self.number, 0)

    @property
    def last_position(self) -> int:
        return self.first_position + self.raw.messages - 1

    @property
    def entry_bytes(self) -> int:
        """What it takes in a segment."""
        return ENTRY_HEAD_BYTES + len(self.raw.body)


class CorruptFrame(CorruptData):
    """A frame of the log that does not decode.

    Attributes:
        entry: it.
    """

    def __init__(self, entry: LogEntry, reason: str) -> None:
        super().__init__(f"frame {entry.sequence} of the log: {reason}")
        self.entry = entry


@dataclass(frozen=True)
class LogRange:
    """Log sequences ``first_sequence..last_sequence``, all that the log has of them.

    Attributes:
        sections: in log order.
        missing: how many sequences the log did not have.
        stored_ms: when the log stored the first frame of it; 0 if there is none.
    """

    first_sequence: int
    last_sequence: int
    sections: Sequence[RangeSection]
    missing: int
    stored_ms: int

    @property
    def body_bytes(self) -> int:
        return sum(len(section.raw.body) for section in self.sections)

    @cached_property
    def by_topic(self) -> Mapping[int, list[RangeSection]]:
        """In log order for each topic; topics in the order of their first section."""
        found: dict[int, list[RangeSection]] = {}
        for section in self.sections:
            found.setdefault(section.raw.topic_id, []).append(section)
        return found

    def whole_segments(self, segment_bytes: int, topic_id: int | None = None) -> LogRange:
        """Its first frames, as many as fill segments of ``segment_bytes`` of entries; all if none overflows.

        The entries of one topic are counted, or all. What is left goes into the next cut: else it would make
        every segment of a busy topic smaller.
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
        return self if last < self.first_sequence else self._until(last)

    def _until(self, last_sequence: int) -> LogRange:
        kept = [each for each in self.sections if each.sequence <= last_sequence]
        return replace(self, last_sequence=last_sequence, sections=kept)


async def read_range(
    log: BundleLog, bundle: Bundle, first_sequence: int, last_sequence: int, *, bytes_max: int
) -> LogRange:
    """Read from ``first_sequence`` up to ``last_sequence``, or less: see the bounds.

    Args:
        log: to read from.
        bundle: whose log.
        first_sequence: where the log_range begins, also if the log has lost it.
        last_sequence: must be in the log; the log_range ends there if no bound ends it before.
        bytes_max: about how many bytes of frames, one frame at least; SECTIONS_MAX bounds it too.

    Raises:
        CorruptFrame: the first frame of the log_range is corrupt. (A later one ends the log_range before it.)
        LogUnavailable: the log does not answer, or it ends before ``last_sequence``.
    """
    sections: list[RangeSection] = []
    frames = taken_bytes = stored_ms = 0
    reached = first_sequence - 1

    def read_on(reached: int, taken_bytes: int) -> asyncio.Task[list[LogEntry]]:
        bytes_wanted = min(READ_BYTES, bytes_max - taken_bytes)
        read = log.read(bundle, reached + 1, frames_max=FRAMES_PER_READ_MAX, bytes_max=bytes_wanted)
        return asyncio.create_task(read, name=f"log_range of {bundle}")

    reading = read_on(reached, taken_bytes) if reached < last_sequence else None
    try:
        while reading is not None:
            entries = [entry for entry in await reading if entry.sequence <= last_sequence]
            if not entries:
                raise LogUnavailable(f"the log of {bundle} ends before {last_sequence}")
            stored_ms = stored_ms or entries[0].stored_ms
            taken_bytes += sum(len(entry.frame) for entry in entries)
            before, reached = reached, entries[-1].sequence
            more = reached < last_sequence and taken_bytes < bytes_max
            # What follows comes while this is taken apart.
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
    return LogRange(first_sequence, reached, sections, reached - first_sequence + 1 - frames, stored_ms)


def _split(entries: Iterable[LogEntry]) -> tuple[list[list[RangeSection]], CorruptFrame | None]:
    """The sections of each frame, up to the first that is corrupt."""
    found: list[list[RangeSection]] = []
    for entry in entries:
        try:
            parts = split_frame(entry.frame)
        except CorruptData as error:
            return found, CorruptFrame(entry, str(error))
        found.append(
            [RangeSection(entry.sequence, number, entry.stored_ms, raw) for number, raw in enumerate(parts)]
        )
    return found, None
