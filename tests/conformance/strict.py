"""Decoding as the official Rust client decodes: what it refuses or does not survive is an error here.

The walk goes by the hand-written tables, so an answer is judged by the contract and not by what our
own generated code makes of it.
"""

from __future__ import annotations

import re
from typing import Any

from tests.conformance.stubs import message_class
from tests.conformance.tables import ENUMS, MESSAGES, Fields

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
VARINT_BYTES_MAX = 10
STRING_MAP: Fields = {1: ("key", "string"), 2: ("value", "string")}
URL = re.compile(r"http://(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}/?")


class Malformed(AssertionError):
    """The official client could not read this answer, or would not survive it."""


def decode(full_name: str, data: bytes) -> Any:
    """Decode ``data`` as one message, e.g. ``danube.StreamMessage``; raises Malformed."""
    package, _, name = full_name.partition(".")
    if package in MESSAGES:
        _walk(package, name, MESSAGES[package][name], data)
    message = message_class(full_name).FromString(data)
    check = _PRESENCE.get(full_name)
    if check is not None:
        check(message)
    return message


def _walk(package: str, where: str, fields: Fields, data: bytes) -> None:
    at = 0
    while at < len(data):
        tag, at = _varint(where, data, at)
        number, wire_type = tag >> 3, tag & 7
        start, at = _skip(where, wire_type, data, at)
        if number not in fields:
            continue
        name, declared = fields[number]
        kind = declared.removeprefix("repeated ")
        here = f"{where}.{name}"
        is_number = kind in {"uint64", "uint32", "int32", "bool"} or kind.startswith("enum ")
        packed = is_number and kind != declared
        expected = VARINT if is_number and not packed else LENGTH_DELIMITED
        if wire_type != expected:
            raise Malformed(f"{here} has wire type {wire_type}, the contract says {expected}")
        if not packed:
            _check_value(package, here, kind, data[start:at])


def _check_value(package: str, here: str, kind: str, value: bytes) -> None:
    if kind == "string":
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{here} is not UTF-8") from error
    elif kind == "map":
        _walk(package, here, STRING_MAP, value)
    elif kind.startswith("message "):
        name = kind.removeprefix("message ")
        _walk(package, here, MESSAGES[package][name], value)
    elif kind.startswith("enum "):
        number, _ = _varint(here, value, 0)
        if number not in ENUMS[package][kind.removeprefix("enum ")].values():
            raise Malformed(f"{here} is {number}, which has no name")


def _skip(where: str, wire_type: int, data: bytes, at: int) -> tuple[int, int]:
    """Where the value starts and where it ends."""
    if wire_type == VARINT:
        return at, _varint(where, data, at)[1]
    if wire_type == LENGTH_DELIMITED:
        length, at = _varint(where, data, at)
    elif wire_type in {FIXED32, FIXED64}:
        length = 4 if wire_type == FIXED32 else 8
    else:
        raise Malformed(f"{where} holds a value of wire type {wire_type}")
    if at + length > len(data):
        raise Malformed(f"{where} ends within a value")
    return at, at + length


def _varint(where: str, data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(VARINT_BYTES_MAX):
        if at + index >= len(data):
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise Malformed(f"{where} holds a broken varint")


def _stream_message(message: Any) -> None:
    if not message.HasField("msg_id"):
        raise Malformed("a StreamMessage without msg_id: the Rust client panics")
    if not message.msg_id.topic_name.startswith("/"):
        raise Malformed("a StreamMessage whose msg_id names no topic: clients route the ack by it")


def _schema_response(message: Any) -> None:
    if not message.HasField("schema"):
        raise Malformed("a SchemaResponse without schema: the Rust client panics")


def _lookup_response(message: Any) -> None:
    if message.response_type == ENUMS["danube"]["TopicLookupResponse.LookupType"]["Failed"]:
        raise Malformed("LookupType Failed: the Rust client panics")
    if not URL.fullmatch(message.brokerServiceUrl):
        raise Malformed(f"brokerServiceUrl {message.brokerServiceUrl!r} is not http://host:port")


_PRESENCE = {
    "danube.StreamMessage": _stream_message,
    "danube.SchemaResponse": _schema_response,
    "danube.TopicLookupResponse": _lookup_response,
}
