"""Reads a StreamMessage that a producer sends: its numbers and its payload, in one pass."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from danube_common.errors import InvalidInput
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.wire.protobuf_fields import Malformed, varint_at
from danube_proto import danube_api_pb2 as api

WHOLE_BYTES_MAX: Final = 64 * 1024
"""A message up to this size goes through protobuf's parser as it is, which copies the payload twice: that
takes less time than to look for its place first."""

_PAYLOAD_TAG: Final = 3 << 3 | 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}


class SentMessage(NamedTuple):
    """What the gateway needs of a message. The rest passes through it as bytes."""

    request_id: int
    producer_id: int
    sequence_id: int
    payload: bytes | memoryview


def read_sent_message(data: bytes) -> SentMessage:
    """Read a serialized StreamMessage as strictly as `parse_strict`; a large payload is not copied.

    Raises:
        CorruptData: it is no StreamMessage.
        InvalidInput: it has no ``msg_id``.
    """
    place = payload_place(data) if len(data) > WHOLE_BYTES_MAX else None
    if place is None:
        message = _parse(data)
        payload: bytes | memoryview = message.payload
    else:
        field, start, end = place
        message = _parse(data[:field] + data[end:])
        payload = memoryview(data)[start:end]
    msg_id = message.msg_id
    if not (msg_id.producer_id or message.HasField("msg_id")):
        raise InvalidInput("the message has no msg_id")
    return SentMessage(message.request_id, msg_id.producer_id, msg_id.sequence_id, payload)


def _parse(data: bytes) -> api.StreamMessage:
    """Return what `parse_strict` returns, with two of its looks for nearly all messages."""
    try:
        message = api.StreamMessage.FromString(data)
    except DecodeError:
        return parse_strict(api.StreamMessage, data)
    if len(UnknownFieldSet(message)) or len(UnknownFieldSet(message.msg_id)):
        return parse_strict(api.StreamMessage, data)
    return message


def payload_place(data: bytes) -> tuple[int, int, int] | None:
    """Return where the payload's field begins, and where its bytes begin and end.

    None if the message is unusual or broken (no payload or two, groups, numbers over 15): then protobuf's
    parser has the word.
    """
    place = None
    at, size = 0, len(data)
    try:
        while at < size:
            field, tag = at, data[at]
            kind = tag & 7
            if tag > 0x7F or tag < 1 << 3:
                return None
            number, at = varint_at(data, at + 1, size) if kind in (_VARINT, _LENGTH) else (0, at + 1)
            if kind == _LENGTH:
                if tag == _PAYLOAD_TAG:
                    if place is not None:
                        return None
                    place = field, at, at + number
                at += number
            elif kind != _VARINT:
                at += _FIXED_BYTES[kind]
    except (IndexError, KeyError, Malformed):
        return None
    return place if at == size else None
