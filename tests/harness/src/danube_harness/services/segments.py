"""Sample segments: their content, their bytes, and what a reader must return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

from danube_common.model.bundle import Bundle, Family
from danube_common.segment.format import SegmentInfo, tail_bytes_of
from danube_common.segment.reader import SegmentEntry, SegmentIndex, parse_tail
from danube_common.wire.frame import encode_frame, split_frame
from danube_storage.segments.builder import SegmentBuilder

BUNDLE = Bundle(Family.FILE, 3)

Added = tuple[int, int, int, list[bytes], int, int]
"""(sequence, section number, topic id, messages, first offset, publish time of all its messages in ms)"""


@dataclass(frozen=True)
class SegmentSample:
    """The content of a segment. ``topic_id`` is None for a shared segment."""

    topic_id: int | None
    block_bytes: int
    added: Sequence[Added]

    def build(self) -> tuple[bytes, SegmentInfo]:
        """Return the bytes of the segment and its description."""
        builder = SegmentBuilder(BUNDLE, self.topic_id, block_bytes=self.block_bytes)
        chunks = []
        for sequence, number, topic_id, messages, first_offset, published_ms in self.added:
            (raw,) = split_frame(encode_frame(1, sequence, [(topic_id, messages)]))
            chunks.append(
                builder.add(
                    sequence,
                    number,
                    raw,
                    first_offset=first_offset,
                    published_ms=(published_ms, published_ms + 1),
                )
            )
            expected_bytes = builder.size_bytes
        tail, info = builder.seal()
        data = b"".join((*chunks, tail))
        assert len(data) == info.size_bytes == expected_bytes
        return data, info


def as_added(entries: Sequence[SegmentEntry]) -> list[Added]:
    """Return the entries of a reader in the form of the sample's content."""
    """Return read entries in the form in which `SegmentSample` added them."""
    return [
        (
            entry.sequence,
            entry.number,
            entry.section.topic_id,
            [entry.section.message(i) for i in range(len(entry.section))],
            entry.first_offset,
            entry.published_ms_min,
        )
        for entry in entries
    ]


def index_of(data: bytes) -> SegmentIndex:
    """Return the index of a whole segment."""
    """Return the index of a whole segment."""
    return parse_tail(data[-tail_bytes_of(data) :], len(data))


def crc_of(data: bytes) -> int:
    """Return the CRC32C, for tests that give damaged data a valid checksum."""
    return int(google_crc32c.value(data))
