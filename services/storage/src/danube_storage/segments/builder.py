"""Builds a segment incrementally: sections in, bytes out. The format is in ``docs/wire/formats.md``."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import google_crc32c

from danube_common.errors import LimitExceeded
from danube_common.model.bundle import Bundle
from danube_common.model.position import (
    MESSAGES_PER_SECTION_MAX,
    SECTIONS_PER_FRAME_MAX,
    SEQUENCE_MAX,
    position_of,
)
from danube_common.segment.format import (
    BLOCK,
    BLOCK_BYTES_DEFAULT,
    BLOCKS_MAX,
    CRC,
    END_MAGIC,
    ENTRY,
    FOOTER,
    TAIL_BYTES,
    TOPIC,
    TOPICS_MAX,
    TRAILER_BYTES,
    U64_MAX,
    VERSION,
    SegmentInfo,
    SegmentKind,
    TopicRange,
    encode_header,
)
from danube_common.wire.frame import RawSection


@dataclass(slots=True)
class _Topic:
    first_position: int
    first_offset: int
    last_position: int
    messages: int


class SegmentBuilder:
    """Builds one segment. It holds an index of bounded size and a row per topic, no messages.

    Equal calls give equal bytes, so a replica built from the same log is the same segment.

    Args:
        bundle: the bundle whose log the sections are from.
        topic_id: the one topic of the segment; None for a shared segment.
        block_bytes: about the bytes per index entry; doubled whenever ``blocks_max`` is reached.
        blocks_max: the most index entries; an even number.
    """

    def __init__(
        self,
        bundle: Bundle,
        topic_id: int | None,
        *,
        block_bytes: int = BLOCK_BYTES_DEFAULT,
        blocks_max: int = BLOCKS_MAX,
    ) -> None:
        if block_bytes < 1 or blocks_max % 2 or not 2 <= blocks_max <= BLOCKS_MAX:
            raise ValueError(f"{blocks_max} blocks of {block_bytes} bytes are no index")
        self._bundle = bundle
        self._kind = SegmentKind.BUNDLE if topic_id is None else SegmentKind.TOPIC
        self._topic_id = topic_id or 0
        self._block_bytes = block_bytes
        self._blocks_max = blocks_max
        self._block_positions = array("Q")
        self._block_offsets = array("Q")
        self._block_times = array("Q")
        self._topics: dict[int, _Topic] = {}
        self._entries = 0
        self._last_position = -1
        self._published_ms_min = U64_MAX
        self._published_ms_max = 0
        self._header = encode_header(self._kind, bundle, self._topic_id)
        self._data_bytes = len(self._header)
        self._data_crc = google_crc32c.value(self._header)
        self._sealed = False

    @property
    def size_bytes(self) -> int:
        """The size of the segment if it were sealed now."""
        return self._data_bytes + self._tail_bytes

    @property
    def entries(self) -> int:
        """The number of entries so far."""
        return self._entries

    @property
    def messages(self) -> int:
        """The number of messages so far."""
        return sum(topic.messages for topic in self._topics.values())

    @property
    def last_position(self) -> int | None:
        """The position of the last message; None while the segment is empty."""
        return self._last_position if self._entries else None

    def add(
        self,
        sequence: int,
        section: int,
        raw: RawSection,
        *,
        first_offset: int,
        published_ms: tuple[int, int],
    ) -> bytes:
        """Append section number ``section`` of frame ``sequence``; return the bytes to write next.

        Args:
            sequence: the frame's log sequence.
            section: the section's number in that frame.
            raw: the section, its checksum verified by `split_frame`.
            first_offset: the topic's offset of its first message; follows the last one of the segment.
            published_ms: the least and the greatest publish time of its messages.

        Raises:
            LimitExceeded: the segment has TOPICS_MAX topics; nothing was added.
            ValueError: the section is out of order, of another topic, or out of range.
        """
        self._check(sequence, section, raw, published_ms)
        first = position_of(sequence, section, 0)
        last = first + raw.messages - 1
        if first <= self._last_position:
            raise ValueError(f"position {first} does not follow {self._last_position}")
        self._count(raw, first, last, first_offset)
        head = ENTRY.pack(
            sequence,
            raw.topic_id,
            first_offset,
            *published_ms,
            section,
            raw.messages,
            len(raw.body),
            raw.crc32c,
        )
        entry = b"".join((head, CRC.pack(google_crc32c.value(head)), raw.body))
        self._index(first, published_ms[1])
        self._entries += 1
        self._last_position = last
        self._published_ms_min = min(self._published_ms_min, published_ms[0])
        self._published_ms_max = max(self._published_ms_max, published_ms[1])
        self._data_bytes += len(entry)
        self._data_crc = google_crc32c.extend(self._data_crc, entry)
        return entry if self._entries > 1 else self._header + entry

    def seal(self) -> tuple[bytes, SegmentInfo]:
        """Return the segment's tail and description. Raises ValueError if the segment is empty."""
        if not self._entries:
            raise ValueError("a segment of nothing")
        self._sealed = True
        topics = tuple(
            TopicRange(
                topic_id, topic.first_position, topic.last_position, topic.messages, topic.first_offset
            )
            for topic_id, topic in sorted(self._topics.items())
        )
        info = SegmentInfo(
            kind=self._kind,
            bundle=self._bundle,
            topic_id=self._topic_id,
            topics=topics,
            entries=self._entries,
            messages=self.messages,
            published_ms_min=self._published_ms_min,
            published_ms_max=self._published_ms_max,
            data_bytes=self._data_bytes,
            data_crc32c=self._data_crc,
            size_bytes=self.size_bytes,
        )
        return self._encode_tail(info), info

    def _check(self, sequence: int, section: int, raw: RawSection, published_ms: tuple[int, int]) -> None:
        if self._sealed:
            raise ValueError("the segment is sealed")
        if not (0 < sequence <= SEQUENCE_MAX and 0 <= section < SECTIONS_PER_FRAME_MAX):
            raise ValueError(f"section {section} of frame {sequence} is out of range")
        if not (0 < raw.messages <= MESSAGES_PER_SECTION_MAX and len(raw.body) >= 4 * raw.messages):
            raise ValueError(f"{raw.messages} messages in a section of {len(raw.body)} bytes")
        if not 0 <= published_ms[0] <= published_ms[1] <= U64_MAX:
            raise ValueError(f"{published_ms} is not a range of publish times")
        if self._kind is SegmentKind.TOPIC and raw.topic_id != self._topic_id:
            raise ValueError(f"topic {raw.topic_id} in a segment of topic {self._topic_id}")

    def _count(self, raw: RawSection, first: int, last: int, first_offset: int) -> None:
        topic = self._topics.get(raw.topic_id)
        if topic is None:
            if len(self._topics) == TOPICS_MAX:
                raise LimitExceeded("topics_per_segment", f"a segment holds at most {TOPICS_MAX} topics")
            if not 0 <= first_offset <= U64_MAX - MESSAGES_PER_SECTION_MAX:
                raise ValueError(f"{first_offset} is not an offset")
            self._topics[raw.topic_id] = _Topic(first, first_offset, last, raw.messages)
            return
        if first_offset != topic.first_offset + topic.messages:
            raise ValueError(f"offset {first_offset} does not follow the {topic.messages} messages before")
        topic.last_position = last
        topic.messages += raw.messages

    def _index(self, position: int, published_ms: int) -> None:
        if self._block_offsets and self._data_bytes - self._block_offsets[-1] < self._block_bytes:
            self._block_times[-1] = max(self._block_times[-1], published_ms)
            return
        if len(self._block_offsets) == self._blocks_max:
            self._halve_index()
        self._block_positions.append(position)
        self._block_offsets.append(self._data_bytes)
        self._block_times.append(published_ms)

    def _halve_index(self) -> None:
        self._block_bytes *= 2
        pairs = zip(self._block_times[::2], self._block_times[1::2], strict=True)
        self._block_times = array("Q", map(max, pairs))
        self._block_positions = self._block_positions[::2]
        self._block_offsets = self._block_offsets[::2]

    @property
    def _tail_bytes(self) -> int:
        index_bytes = len(self._block_offsets) * BLOCK.size + len(self._topics) * TOPIC.size
        return index_bytes + FOOTER.size + TRAILER_BYTES

    def _encode_tail(self, info: SegmentInfo) -> bytes:
        blocks = zip(self._block_positions, self._block_offsets, self._block_times, strict=True)
        parts = [BLOCK.pack(*block) for block in blocks]
        parts += [
            TOPIC.pack(t.topic_id, t.first_position, t.last_position, t.messages, t.first_offset)
            for t in info.topics
        ]
        parts.append(
            FOOTER.pack(
                VERSION,
                info.kind,
                info.bundle.index,
                info.topic_id,
                info.entries,
                info.messages,
                info.published_ms_min,
                info.published_ms_max,
                info.data_bytes,
                info.data_crc32c,
                len(self._block_offsets),
                len(info.topics),
            )
        )
        parts.append(TAIL_BYTES.pack(self._tail_bytes))
        checked = b"".join(parts)
        return b"".join((checked, CRC.pack(google_crc32c.value(checked)), END_MAGIC))
