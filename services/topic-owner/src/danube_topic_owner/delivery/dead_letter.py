"""Dead letters: messages as they were produced, with attributes that tell where they failed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from danube_common.wire.frame import encode_frame, make_frame_id
from danube_topic_owner.delivery.retries import FailedMessage

MSG_ID = 2
"""Fields of a StreamMessage in every generation of the client contract."""
ATTRIBUTES = 7
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""
UNKNOWN = "unknown"

_SIZES = {FIXED64: 8, FIXED32: 4}


class Origin(NamedTuple):
    """The subscription whose message it was; ``generation`` grows when it starts over."""

    topic: str
    topic_id: int
    subscription: str
    generation: int


class Frame(NamedTuple):
    """A frame of one message, and the id by which the log recognises it when it comes again."""

    frame_id: str
    data: bytes


def dead_letter_frame(topic: str, topic_id: int, origin: Origin, message: FailedMessage) -> Frame:
    """Return the frame to append to the log of the dead-letter topic.

    The next owner makes the same frame, so that the log stores it once although one has died meanwhile.
    """
    seed = f"{topic_id} {origin.topic_id} {origin.generation} {origin.subscription}".encode()
    gateway = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest()) >> 1
    data = in_topic(with_attributes(message.data, attributes_of(origin, message)), topic)
    frame_id = make_frame_id(gateway, message.position)
    return Frame(frame_id, encode_frame(gateway, message.position, [(topic_id, [data])]))


def attributes_of(origin: Origin, message: FailedMessage) -> dict[str, str]:
    """Return what a dead letter says beyond its message."""
    msg_id = _msg_id_of(message.data)
    return {
        "x-original-topic": origin.topic,
        "x-original-subscription": origin.subscription,
        "x-original-topic-offset": str(message.position),
        "x-original-producer-id": str(msg_id.producer_id),
        "x-original-broker-addr": msg_id.broker_addr,
        "x-poison-policy": "DeadLetter",
        "x-delivery-attempt": str(message.failures),
        "x-failure-reason": message.reason or UNKNOWN,
    }


def with_attributes(message: bytes, attributes: Mapping[str, str]) -> bytes:
    """Return a serialized StreamMessage with more attributes; they replace those of the same names.

    Everything else stays as it was produced.
    """
    entries = (_text(1, name) + _text(2, value) for name, value in attributes.items())
    return message + b"".join(_field(ATTRIBUTES, entry) for entry in entries)


def in_topic(message: bytes, topic: str) -> bytes:
    """Return a serialized StreamMessage whose ``msg_id`` names ``topic``: clients acknowledge it there."""
    return message + _field(MSG_ID, _text(_msg_id_of(message).topic_name_field, topic))


class _MsgId(NamedTuple):
    producer_id: int
    broker_addr: str
    topic_name_field: int


def _msg_id_of(message: bytes) -> _MsgId:
    """Read ``msg_id``, whose layout its fields 2 and 4 tell.

    Up to v0.2.2 the fields are sequence, producer, topic, address; later producer, topic, address.
    """
    fields: dict[int, int | bytes] = {}
    for number, value in _fields(message):
        if number == MSG_ID and isinstance(value, bytes):
            fields.update(_fields(value))
    later = isinstance(fields.get(2), bytes) or not isinstance(fields.get(4, b""), bytes)
    producer_id, address = fields.get(1 if later else 2, 0), fields.get(3 if later else 4, b"")
    return _MsgId(
        producer_id if isinstance(producer_id, int) else 0,
        address.decode(errors="replace") if isinstance(address, bytes) else "",
        2 if later else 3,
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field, up to the first that cannot be read."""
    at = 0
    try:
        while at < len(data):
            tag, at = _varint_at(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, at = _varint_at(data, at)
                yield number, value
                continue
            if kind == LENGTH:
                size, at = _varint_at(data, at)
            else:
                size = _SIZES[kind]
            if at + size > len(data):
                return
            yield number, data[at : at + size]
            at += size
    except (IndexError, KeyError):
        return


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | LENGTH,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
