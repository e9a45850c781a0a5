"""Dead letters: messages as they were produced, with attributes that tell where they failed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from danube_common.wire import dead_letter as names
from danube_common.wire.frame import encode_frame, make_frame_id
from danube_common.wire.protobuf_fields import fields, length_field, text_field
from danube_topic_owner.delivery.retries import FailedMessage

MSG_ID = 2
"""Fields of a StreamMessage in every generation of the client contract."""
ATTRIBUTES = 7
UNKNOWN = "unknown"


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
        names.ORIGINAL_TOPIC: origin.topic,
        names.ORIGINAL_SUBSCRIPTION: origin.subscription,
        names.ORIGINAL_OFFSET: str(message.offset),
        names.ORIGINAL_PRODUCER_ID: str(msg_id.producer_id),
        names.ORIGINAL_BROKER_ADDR: msg_id.broker_addr,
        names.POISON_POLICY: "DeadLetter",
        names.ATTEMPTS: str(message.failures),
        names.REASON: message.reason or UNKNOWN,
    }


def with_attributes(message: bytes, attributes: Mapping[str, str]) -> bytes:
    """Return a serialized StreamMessage with more attributes; they replace those of the same names.

    Everything else stays as it was produced.
    """
    entries = (text_field(1, name) + text_field(2, value) for name, value in attributes.items())
    return message + b"".join(length_field(ATTRIBUTES, entry) for entry in entries)


def in_topic(message: bytes, topic: str) -> bytes:
    """Return a serialized StreamMessage whose ``msg_id`` names ``topic``: clients acknowledge it there."""
    return message + length_field(MSG_ID, text_field(_msg_id_of(message).topic_name_field, topic))


class _MsgId(NamedTuple):
    producer_id: int
    broker_addr: str
    topic_name_field: int


def _msg_id_of(message: bytes) -> _MsgId:
    """Read ``msg_id``, whose layout its fields 2 and 4 tell.

    Up to v0.2.2 the fields are sequence, producer, topic, address; later producer, topic, address.
    """
    found: dict[int, int | bytes] = {}
    for number, value in fields(message):
        if number == MSG_ID and isinstance(value, bytes):
            found.update(fields(value))
    later = isinstance(found.get(2), bytes) or not isinstance(found.get(4, b""), bytes)
    producer_id, address = found.get(1 if later else 2, 0), found.get(3 if later else 4, b"")
    return _MsgId(
        producer_id if isinstance(producer_id, int) else 0,
        address.decode(errors="replace") if isinstance(address, bytes) else "",
        2 if later else 3,
    )
