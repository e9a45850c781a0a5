"""Frames: the unit of messages from gateway to log, owner and segment.

Layout, little-endian::

    header   magic "DNBF" | version u8 | flags u8 | sections u16 | gateway u64 | number u64
    table    per section: topic_id u64 | messages u32 | body bytes u32 | body crc32c u32
    crc32c   u32 over header and table
    bodies   per section: messages x u32 end offsets, then the messages' bytes back to back

Messages are opaque: serialized StreamMessages, never decoded or encoded again on the way.

The frame of an idempotent producer has one section. Its ``gateway`` is the producer's sequence key with the
upper bit set, which no gateway's number has, and its ``number`` the sequence of its first message: whoever
sends the batch again, from whatever gateway, makes the same frame with the same id.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import google_crc32c

from danube_common.errors import CorruptData
from danube_common.model.position import MESSAGES_PER_SECTION_MAX, SECTIONS_PER_FRAME_MAX
from danube_common.model.run import Run

MAGIC = b"DNBF"
VERSION = 1
JOINED_BYTES_MAX: Final = 4096
"""Messages up to this size on average are joined before their checksum: one more copy, at 0.1 us for 1 KiB,
costs less than one more call a message. Of larger ones the only copy is the one into the frame."""

IDEMPOTENT: Final = 1 << 63
"""The bit of ``gateway`` that marks the frame of an idempotent producer."""

_HEADER = struct.Struct("<4sBBHQQ")
_ENTRY = struct.Struct("<QIII")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Section:
    """The messages of one topic in one frame; ``ends[i]`` is where message i ends in ``messages``."""

    topic_id: int
    ends: tuple[int, ...]
    messages: bytes

    def __len__(self) -> int:
        return len(self.ends)

    def run(self, first: int, offset: int = 0) -> Run:
        """Return the messages as a run; ``first`` is the position of the first one, ``offset`` its offset."""
        return Run(first, self.ends, 0, len(self.ends), self.messages, offset)

    def message(self, index: int) -> bytes:
        """Return message ``index``."""
        start = self.ends[index - 1] if index else 0
        return self.messages[start : self.ends[index]]


class ProducerBatch(NamedTuple):
    """The sequences of an idempotent producer's messages in a frame; ``key`` is its `sequence_key`."""

    key: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class RawSection:
    """A section as it lies in a frame: ``body`` is the index of end offsets and the messages."""

    topic_id: int
    messages: int
    body: bytes
    crc32c: int


@dataclass(frozen=True, slots=True)
class Frame:
    """``gateway`` and ``number`` together identify a frame; a retried frame keeps them."""

    gateway: int
    number: int
    sections: tuple[Section, ...]

    @property
    def frame_id(self) -> str:
        """The id by which the log recognises a retried frame."""
        return make_frame_id(self.gateway, self.number)

    @property
    def producer_batch(self) -> ProducerBatch | None:
        """What an idempotent producer has stored with the frame; None for another one's."""
        if not self.gateway & IDEMPOTENT or not self.sections:
            return None
        return ProducerBatch(self.gateway ^ IDEMPOTENT, self.number, self.number + len(self.sections[0]) - 1)


def make_frame_id(gateway: int, number: int) -> str:
    """Return the id by which the log recognises a retried frame."""
    return f"{gateway:x}-{number:x}"


def sequence_key(topic_id: int, producer_name: str) -> int:
    """Return what identifies a producer's sequences, in 63 bits; those of a topic made anew are others."""
    digest = hashlib.blake2b(f"{topic_id}\0{producer_name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def producer_batch_of(data: bytes) -> ProducerBatch | None:
    """Return `Frame.producer_batch` of an encoded frame from its head alone; None also if it has none."""
    if len(data) < _HEADER.size + _ENTRY.size or not data.startswith(MAGIC):
        return None
    *_, sections, gateway, number = _HEADER.unpack_from(data)
    if not sections or not gateway & IDEMPOTENT:
        return None
    _, messages, _, _ = _ENTRY.unpack_from(data, _HEADER.size)
    return ProducerBatch(gateway ^ IDEMPOTENT, number, number + messages - 1)


def frame_id_of(data: bytes) -> str:
    """Return the id of an encoded frame from its header; empty if it has none."""
    if len(data) < _HEADER.size:
        return ""
    *_, gateway, number = _HEADER.unpack_from(data)
    return make_frame_id(gateway, number)


def encode_frame(gateway: int, number: int, sections: Sequence[tuple[int, Sequence[bytes]]]) -> bytes:
    """Encode a frame of (topic id, messages) pairs, at most one per topic.

    Raises ValueError over SECTIONS_PER_FRAME_MAX sections or MESSAGES_PER_SECTION_MAX messages in
    one: the batcher that fills frames stops before.
    """
    if len(sections) >= SECTIONS_PER_FRAME_MAX:
        raise ValueError(f"{len(sections)} sections in one frame")
    table: list[bytes] = [_HEADER.pack(MAGIC, VERSION, 0, len(sections), gateway, number)]
    bodies: list[bytes] = []
    for topic_id, messages in sections:
        if not 0 < len(messages) <= MESSAGES_PER_SECTION_MAX:
            raise ValueError(f"{len(messages)} messages in one section")
        end = 0
        ends = [end := end + len(message) for message in messages]
        index = struct.pack(f"<{len(ends)}I", *ends)
        if end > JOINED_BYTES_MAX * len(messages):
            crc = google_crc32c.value(index)
            for message in messages:
                crc = google_crc32c.extend(crc, message)
            bodies += (index, *messages)
        else:
            body = b"".join((index, *messages))
            crc = google_crc32c.value(body)
            bodies.append(body)
        table.append(_ENTRY.pack(topic_id, len(messages), len(index) + end, crc))
    head = b"".join(table)
    return b"".join((head, _CRC.pack(google_crc32c.value(head)), *bodies))


def encode_section(gateway: int, number: int, section: RawSection) -> bytes:
    """Encode a frame of one section, whose body was encoded and whose checksum was verified before."""
    head = _HEADER.pack(MAGIC, VERSION, 0, 1, gateway, number) + _ENTRY.pack(
        section.topic_id, section.messages, len(section.body), section.crc32c
    )
    return b"".join((head, _CRC.pack(google_crc32c.value(head)), section.body))


def decode_frame(data: bytes) -> Frame:
    """Decode a frame and verify its checksums; raises CorruptData."""
    gateway, number, raw_sections = _split(data)
    return Frame(gateway, number, tuple([decode_section(raw) for raw in raw_sections]))


def split_frame(data: bytes) -> tuple[RawSection, ...]:
    """Split a frame into its raw sections without reading their messages.

    Raises CorruptData as `decode_frame` does, except for what only `decode_section` sees.
    """
    sections = tuple(_split(data)[2])
    for raw in sections:
        check_section(raw)
    return sections


def decode_section(raw: RawSection) -> Section:
    """Decode one section and verify its checksum; raises CorruptData."""
    check_section(raw)
    return decode_checked_section(raw)


def decode_checked_section(raw: RawSection) -> Section:
    """Decode one section whose checksum was verified before; raises CorruptData if its index is invalid."""
    messages, body = raw.messages, raw.body
    if not 0 < messages <= MESSAGES_PER_SECTION_MAX or len(body) < 4 * messages:
        raise CorruptData(f"the section of topic {raw.topic_id} cannot hold {messages} messages")
    ends = struct.unpack_from(f"<{messages}I", body)
    payload = body[4 * messages :]
    if ends[-1] != len(payload) or tuple(sorted(ends)) != ends:
        raise CorruptData(f"the section of topic {raw.topic_id} has an index that does not fit its bytes")
    return Section(raw.topic_id, ends, payload)


def _split(data: bytes) -> tuple[int, int, list[RawSection]]:
    try:
        magic, version, flags, count, gateway, number = _HEADER.unpack_from(data)
        table_end = _HEADER.size + count * _ENTRY.size
        (crc,) = _CRC.unpack_from(data, table_end)
    except struct.error:
        raise CorruptData(f"{len(data)} bytes are too short for a frame") from None
    if magic != MAGIC:
        raise CorruptData(f"not a frame: {data[:6]!r}")
    if version != VERSION or flags:
        raise CorruptData(
            f"a frame of version {version} with flags {flags}, where version {VERSION} without flags is "
            "known: upgrade this process"
        )
    if google_crc32c.value(data[:table_end]) != crc:
        raise CorruptData("the frame's section table fails its checksum")
    sections: list[RawSection] = []
    start = table_end + _CRC.size
    for entry in range(count):
        topic_id, messages, body_bytes, body_crc = _ENTRY.unpack_from(
            data, _HEADER.size + entry * _ENTRY.size
        )
        body = data[start : start + body_bytes]
        if len(body) != body_bytes:
            raise CorruptData(f"the section of topic {topic_id} is cut short")
        sections.append(RawSection(topic_id, messages, body, body_crc))
        start += body_bytes
    if start != len(data):
        raise CorruptData(f"the frame has {len(data) - start} bytes more than its table says")
    return gateway, number, sections


def check_section(raw: RawSection) -> None:
    """Verify a section's checksum; raises CorruptData."""
    if google_crc32c.value(raw.body) != raw.crc32c:
        raise CorruptData(f"the section of topic {raw.topic_id} fails its checksum")
