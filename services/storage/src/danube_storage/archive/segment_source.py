"""The bytes of one planned segment, encoded in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from danube_common.archive.records import SHARED
from danube_common.model.bundle import Bundle
from danube_common.segment.format import SegmentInfo
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.segments.builder import SegmentBuilder

CHUNK_BYTES = 1 << 20
SECTIONS_PER_CHUNK_MAX = 2048


class SegmentSource:
    """Encodes a segment; equal arguments give equal bytes.

    Args:
        bundle: the bundle whose log the sections are from.
        planned: the sections of the segment.
        offsets: by topic id, the offset of the topic's first message in the segment.
    """

    def __init__(self, bundle: Bundle, planned: PlannedSegment, offsets: Mapping[int, int]) -> None:
        self._builder = SegmentBuilder(bundle, None if planned.topic_id == SHARED else planned.topic_id)
        self._sections = planned.sections
        self._offsets = dict(offsets)
        self._done = 0
        self.info: SegmentInfo
        """What the segment holds; set when all chunks were taken."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield chunks of about CHUNK_BYTES. May be called once."""
        while self._done < len(self._sections):
            # Checksums and copies of a chunk take milliseconds, so they run beside the event loop.
            yield await asyncio.to_thread(self._chunk)
        tail, self.info = self._builder.seal()
        yield tail

    def _chunk(self) -> bytes:
        parts: list[bytes] = []
        taken_bytes = 0
        for section in self._sections[self._done : self._done + SECTIONS_PER_CHUNK_MAX]:
            topic_id, offset = section.raw.topic_id, self._offsets[section.raw.topic_id]
            parts.append(
                self._builder.add(
                    section.sequence,
                    section.number,
                    section.raw,
                    first_offset=offset,
                    published_ms=(section.stored_ms, section.stored_ms),
                )
            )
            self._offsets[topic_id] = offset + section.raw.messages
            taken_bytes += len(parts[-1])
            if taken_bytes >= CHUNK_BYTES:
                break
        self._done += len(parts)
        return b"".join(parts)
