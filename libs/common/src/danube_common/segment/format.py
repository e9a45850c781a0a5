"""The segment format: a write-once file of sections in log order (docs/adr/0005-segment-format.md).

Layout of version 1, little-endian, every part under a CRC32C::

    header   magic "DNBS" | version u8 | kind u8 | bundle index u16 | topic_id u64 | crc32c u32
    entries  per section of a frame:
             sequence u64 | topic_id u64 | first offset u64 | published ms, least u64, greatest u64
             | section number u16 | messages u32 | body bytes u32 | body crc32c u32 | crc32c u32
             body, as it lay in the frame
    index    per block of entries: first position u64 | file offset u64 | greatest published ms u64
    topics   per topic, by id: topic_id u64 | first position u64 | last position u64 | messages u64
             | first offset u64
    footer   version u8 | kind u8 | bundle index u16 | topic_id u64 | entries u64 | messages u64
             | published ms, least u64, greatest u64 | header and entries: bytes u64, crc32c u32
             | blocks u32 | topics u32
    trailer  bytes from index to trailer u32 | crc32c u32 over index, topics, footer and that | "DNBE"

A topic's segment has its topic id in header and footer; a bundle's segment, which many topics share, has 0.
The index, topics, footer and trailer together are the segment's *tail*.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from danube_common.errors import CorruptData
from danube_common.model.bundle import Bundle

MAGIC = b"DNBS"
END_MAGIC = b"DNBE"
VERSION = 1

HEADER = struct.Struct("<4sBBHQ")
ENTRY = struct.Struct("<QQQQQHIII")
BLOCK = struct.Struct("<QQQ")
TOPIC = struct.Struct("<QQQQQ")
FOOTER = struct.Struct("<BBHQQQQQQIII")
TAIL_BYTES = struct.Struct("<I")
CRC = struct.Struct("<I")

HEADER_BYTES = HEADER.size + CRC.size
ENTRY_HEAD_BYTES = ENTRY.size + CRC.size
TRAILER_BYTES = TAIL_BYTES.size + CRC.size + len(END_MAGIC)

BLOCK_BYTES_DEFAULT = 64 << 10
BLOCKS_MAX = 1 << 14
TOPICS_MAX = 1 << 14
TAIL_BYTES_MAX = BLOCKS_MAX * BLOCK.size + TOPICS_MAX * TOPIC.size + FOOTER.size + TRAILER_BYTES
U64_MAX = (1 << 64) - 1


class SegmentKind(IntEnum):
    """Whether a segment holds one topic or many topics of a bundle."""

    TOPIC = 1
    BUNDLE = 2


@dataclass(frozen=True, slots=True)
class TopicRange:
    """What a segment holds of one topic; a topic's offsets count its messages without gaps."""

    topic_id: int
    first_position: int
    last_position: int
    messages: int
    first_offset: int

    @property
    def last_offset(self) -> int:
        """The offset of the topic's last message in the segment."""
        return self.first_offset + self.messages - 1


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What a sealed segment holds, as its tail says.

    Attributes:
        topic_id: the one topic of a segment of kind TOPIC, 0 for kind BUNDLE.
        topics: by ascending topic id; one for kind TOPIC.
        published_ms_min: the least publish time of its messages, in ms since the epoch.
        data_bytes: size of header and entries; the index starts behind them.
        data_crc32c: over those bytes; equal in every build of the same segment.
        size_bytes: of the whole segment.
    """

    kind: SegmentKind
    bundle: Bundle
    topic_id: int
    topics: tuple[TopicRange, ...]
    entries: int
    messages: int
    published_ms_min: int
    published_ms_max: int
    data_bytes: int
    data_crc32c: int
    size_bytes: int

    @property
    def first_position(self) -> int:
        """The position of the first message, of whichever topic."""
        return min(topic.first_position for topic in self.topics)

    @property
    def last_position(self) -> int:
        """The position of the last message, of whichever topic."""
        return max(topic.last_position for topic in self.topics)

    def topic(self, topic_id: int) -> TopicRange | None:
        """What the segment holds of a topic; None if nothing."""
        return next((topic for topic in self.topics if topic.topic_id == topic_id), None)


def encode_header(kind: SegmentKind, bundle: Bundle, topic_id: int) -> bytes:
    """The header of a segment, with its checksum."""
    head = HEADER.pack(MAGIC, VERSION, kind, bundle.index, topic_id)
    return head + CRC.pack(google_crc32c.value(head))


def check_header(data: bytes, info: SegmentInfo) -> None:
    """Check a segment's first HEADER_BYTES against its footer. Raises CorruptData."""
    if data[: len(MAGIC)] != MAGIC:
        raise CorruptData(f"not a segment: it starts with {data[: len(MAGIC)]!r}")
    if data != encode_header(info.kind, info.bundle, info.topic_id):
        raise CorruptData("the segment's header is damaged or is not that of its footer")


def tail_bytes_of(end: bytes) -> int:
    """The size of a segment's tail in bytes, at most TAIL_BYTES_MAX.

    ``end`` holds the last bytes of the segment, TRAILER_BYTES at least. Raises CorruptData.
    """
    if len(end) < TRAILER_BYTES or end[-len(END_MAGIC) :] != END_MAGIC:
        raise CorruptData("not a sealed segment: its end mark is missing")
    (tail_bytes,) = TAIL_BYTES.unpack_from(end, len(end) - TRAILER_BYTES)
    if not FOOTER.size + TRAILER_BYTES <= tail_bytes <= TAIL_BYTES_MAX:
        raise CorruptData(f"a segment cannot have a tail of {tail_bytes} bytes")
    return int(tail_bytes)
