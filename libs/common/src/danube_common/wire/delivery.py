"""Deliveries: messages that an owner sends to the gateway of a consumer's stream.

Layout, little-endian::

    magic u8 0xD2 | crc32c u32 of all that follows
    epoch u64 | consumer id u64 | session u64 | number u64 | runs u32 | messages u32
    per run: position of its first message u64 | messages u32
    per message: where it ends in the bytes that follow u32
    the messages' bytes back to back

``number`` counts the deliveries of one session from 1 without gaps: a gateway that sees a gap has
lost a message on the bus and asks again. The messages of a run have consecutive positions; the position
of a run of non-reliable messages is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

from danube_common.errors import CorruptData
from danube_common.model.run import Run

MAGIC = 0xD2
MESSAGES_MAX = 4096
"""Messages in one delivery; a run has at least one."""

_LEAD = struct.Struct("<BI")
_HEADER = struct.Struct("<QQQQII")
_TABLE_START = _LEAD.size + _HEADER.size


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages for one consumer, numbered within its session; the runs are in the order to be sent."""

    epoch: int
    consumer_id: int
    session: int
    number: int
    runs: tuple[Run, ...]

    def entries(self) -> list[tuple[int, bytes]]:
        """Return (position, serialized StreamMessage) of each message."""
        return [entry for run in self.runs for entry in run.entries()]


def encode_delivery(epoch: int, consumer_id: int, session: int, number: int, runs: Sequence[Run]) -> bytes:
    """Encode one delivery of at most MESSAGES_MAX messages, in runs that are not empty."""
    table: list[int] = []
    ends: list[int] = []
    bodies: list[bytes] = []
    size = 0
    for run in runs:
        table += (run.first, len(run))
        some = run.ends[run.low : run.high]
        shift = size - run.start
        ends += [end + shift for end in some] if shift else some
        body = run.body()
        size += len(body)
        bodies.append(body)
    head = b"".join(
        (
            _HEADER.pack(epoch, consumer_id, session, number, len(runs), len(ends)),
            struct.pack("<" + "QI" * len(runs), *table),
            struct.pack(f"<{len(ends)}I", *ends),
        )
    )
    crc = google_crc32c.value(head)
    for body in bodies:
        crc = google_crc32c.extend(crc, body)
    return b"".join((_LEAD.pack(MAGIC, crc), head, *bodies))


def decode_delivery(data: bytes) -> Delivery:
    """Decode one delivery and verify its checksum; raises CorruptData."""
    try:
        magic, crc = _LEAD.unpack_from(data)
        epoch, consumer_id, session, number, count, messages = _HEADER.unpack_from(data, _LEAD.size)
    except struct.error:
        raise CorruptData(f"{len(data)} bytes are too short for a delivery") from None
    ends_start = _TABLE_START + 12 * count
    body_start = ends_start + 4 * messages
    if magic != MAGIC or count > messages or messages > MESSAGES_MAX or body_start > len(data):
        raise CorruptData("not a delivery")
    body = data[body_start:]
    if google_crc32c.extend(google_crc32c.value(data[_LEAD.size : body_start]), body) != crc:
        raise CorruptData("the delivery fails its checksum")
    table = struct.unpack_from("<" + "QI" * count, data, _TABLE_START)
    ends = struct.unpack_from(f"<{messages}I", data, ends_start)
    if sum(table[1::2]) != messages or (ends[-1] if ends else 0) != len(body):
        raise CorruptData("the delivery's tables do not fit its bytes")
    runs: list[Run] = []
    low = 0
    for first, length in zip(table[::2], table[1::2], strict=True):
        runs.append(Run(first, ends, low, low + length, body))
        low += length
    return Delivery(epoch, consumer_id, session, number, tuple(runs))
