"""The bytes of one planned segment, made piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from danube_common.archive.records import SHARED
from danube_common.model.bundle import Bundle
from danube_common.segment.format import SegmentInfo
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.segments.builder import SegmentBuilder

PIECE_BYTES = 1 << 20
SECTIONS_PER_PIECE_MAX = 2048


class SegmentSource:
    """Makes a segment's bytes; equal arguments give equal bytes.

    Args:
        bundle: whose log the sections are of.
        planned: what the segment holds.
        offsets: of each topic's first message in it.
    """

    def __init__(self, bundle: Bundle, planned: PlannedSegment, offsets: Mapping[int, int]) -> None:
        self._builder = SegmentBuilder(bundle, None if planned.topic_id == SHARED else planned.topic_id)
        self._sections = planned.sections
        self._offsets = dict(offsets)
        self._done = 0
        self._info: SegmentInfo | None = None

    @property
    def info(self) -> SegmentInfo:
        """What the segment holds; once all chunks were taken."""
        if self._info is None:
            raise ValueError("the segment is not sealed yet")
        return self._info

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of about PIECE_BYTES; to be asked for once."""
        while self._done < len(self._sections):
            # Checksums and copies of a piece take milliseconds: not on the event loop.
            yield await asyncio.to_thread(self._piece)
        tail, self._info = self._builder.seal()
        yield tail

    def _piece(self) -> bytes:
        parts: list[bytes] = []
        taken_bytes = 0
        while (
            self._done < len(self._sections)
            and taken_bytes < PIECE_BYTES
            and len(parts) < SECTIONS_PER_PIECE_MAX
        ):
            section = self._sections[self._done]
            topic_id = section.raw.topic_id
            offset = self._offsets[topic_id]
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
            self._done += 1
        return b"".join(parts)
