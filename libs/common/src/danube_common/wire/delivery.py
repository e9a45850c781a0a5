"""Deliveries: messages that an owner sends to the gateway of a consumer's stream.

Layout, little-endian::

    magic u8 0xD1 | epoch u64 | consumer id u64 | session u64 | number u64 | entries u32
    per entry: position u64 | message bytes u32
    the messages' bytes back to back

``number`` counts the deliveries of one session from 1 without gaps: a gateway that sees a gap has
lost a message on the bus and asks again. ``position`` is 0 for non-reliable messages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from danube_common.errors import CorruptData

MAGIC = 0xD1
ENTRIES_MAX = 4096
"""Entries in one delivery."""

_HEADER = struct.Struct("<BQQQQI")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages for one consumer, numbered within its session."""

    epoch: int
    consumer_id: int
    session: int
    number: int
    entries: tuple[tuple[int, bytes], ...]
    """(position, serialized StreamMessage) in the order to be sent."""


def encode_delivery(
    epoch: int, consumer_id: int, session: int, number: int, entries: Sequence[tuple[int, bytes]]
) -> bytes:
    """Encode one delivery of 1..ENTRIES_MAX entries."""
    table: list[int] = []
    for position, message in entries:
        table.append(position)
        table.append(len(message))
    return b"".join(
        (
            _HEADER.pack(MAGIC, epoch, consumer_id, session, number, len(entries)),
            struct.pack("<" + "QI" * len(entries), *table),
            *(message for _, message in entries),
        )
    )


def decode_delivery(data: bytes) -> Delivery:
    """Decode one delivery; raises CorruptData."""
    try:
        magic, epoch, consumer_id, session, number, count = _HEADER.unpack_from(data)
        if magic != MAGIC or count > ENTRIES_MAX:
            raise CorruptData("not a delivery")
        table = struct.unpack_from("<" + "QI" * count, data, _HEADER.size)
    except struct.error:
        raise CorruptData(f"{len(data)} bytes are too short for a delivery") from None
    start = _HEADER.size + 12 * count
    entries: list[tuple[int, bytes]] = []
    for entry in range(count):
        end = start + table[2 * entry + 1]
        entries.append((table[2 * entry], data[start:end]))
        start = end
    if start != len(data):
        raise CorruptData(f"the delivery's {len(data)} bytes do not fit its table")
    return Delivery(epoch, consumer_id, session, number, tuple(entries))
