"""Checks payloads against a schema type, and formats them for printing."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from danube_client import Message, SchemaType

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Sign and nineteen digits.
INT64_TEXT_MAX = 20
_INT64 = re.compile("[+-]?[0-9]+")
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


def check(payload: bytes, schema: SchemaType) -> None:
    """Check that a payload has the type of the schema; only the platform checks JSON against a JSON Schema.

    Raises:
        ValueError: the payload has another type; the text says why.
    """
    if schema is not SchemaType.BYTES:
        decode(payload, schema)


def decode(payload: bytes, schema: SchemaType) -> object:
    """Return the value of a payload: text, an integer (sent as decimal text), or a JSON value.

    Raises:
        ValueError: the payload has another type; bytes must be UTF-8 text here.
    """
    if schema is SchemaType.JSON:
        if not payload:
            raise ValueError("an empty payload is not JSON")
        try:
            return cast("object", orjson.loads(payload))
        except orjson.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from error
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: {error}") from error
    if schema is SchemaType.INT64:
        return _int64(text)
    return text


def as_line(message: Message, schema: SchemaType) -> bytes:
    """Return a message as text for people: the payload as it came, of bytes the readable ones.

    Every type is called bytes, as in the original tool.

    Raises:
        ValueError: the payload has another type than the schema.
    """
    check(message.payload, schema)
    shown = message.payload
    if schema is SchemaType.BYTES:
        shown = message.payload.decode(errors="backslashreplace").encode()
    return _line(message, shown)


def as_escaped_line(message: Message, _error: ValueError) -> bytes:
    """Return a message whose payload has another type than the schema: what is unprintable is escaped."""
    text = message.payload.decode(errors="backslashreplace")
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return _line(message, shown.encode())


def _line(message: Message, shown: bytes) -> bytes:
    line = b"Received bytes message: %d, with payload: %b" % (message.position or message.sequence_id, shown)
    if message.attributes:
        pairs = ", ".join(f"{key}={value}" for key, value in sorted(message.attributes.items()))
        line += f", with attributes: {pairs}".encode()
    return line + b"\n"


def as_json(message: Message, schema: SchemaType) -> bytes:
    """Return a message as one line of JSON. Bytes that are not UTF-8 become base64 in ``payload_base64``.

    A JSON payload is passed on as it came, so that numbers keep their digits and objects all their members;
    only line breaks, which JSON has between its parts alone, become spaces.

    Raises:
        ValueError: the payload has another type than the schema.
    """
    try:
        value = decode(message.payload, schema)
    except ValueError:
        if schema is not SchemaType.BYTES:
            raise
        return _json(message, payload_base64=_base64(message))
    if schema is SchemaType.JSON:
        value = orjson.Fragment(message.payload.translate(_LINE_BREAKS_TO_SPACES))
    return _json(message, payload=value)


def as_escaped_json(message: Message, error: ValueError) -> bytes:
    """Return a message whose payload has another type than the schema, with the reason as ``error``."""
    return _json(message, payload_base64=_base64(message), error=str(error))


def _json(message: Message, **payload: Any) -> bytes:
    shown = {
        "topic": message.topic,
        "producer": message.producer_name,
        # Without native streaming there is none.
        "position": message.position or None,
        "sequence_id": message.sequence_id,
        "key": message.key,
        "publish_time": _time(message.publish_time_ms),
        "publish_time_ms": message.publish_time_ms,
        "attributes": dict(message.attributes),
    }
    return orjson.dumps(shown | payload, option=orjson.OPT_APPEND_NEWLINE)


def _base64(message: Message) -> str:
    return base64.b64encode(message.payload).decode()


def _time(milliseconds: int) -> str | None:
    """Return a time in the form of RFC 3339; None for what a producer's clock cannot have said."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_length_prefixed(message: Message, _schema: SchemaType) -> bytes:
    """Return the payload behind its length in four bytes, without any check."""
    return len(message.payload).to_bytes(4, "big") + message.payload


def as_raw(message: Message, _schema: SchemaType) -> bytes:
    """Return the payload and a newline, without any check."""
    return message.payload + b"\n"


def _int64(text: str) -> int:
    if len(text) > INT64_TEXT_MAX or not _INT64.fullmatch(text):
        raise ValueError(f"not a 64-bit integer in decimal: {text[:40]!r}")
    value = int(text)
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"beyond 64 bits: {text}")
    return value


def key_in(payload: bytes, field: str) -> str | None:
    """Return the key of a JSON object: the text or number in one of its fields; None if that is null.

    Raises:
        ValueError: it is no object, lacks the field, or has something else there.
    """
    value = decode(payload, SchemaType.JSON)
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - the type of a payload
            f"not a JSON object, so that it has no field {field!r}"
        )
    if field not in value:
        raise ValueError(f"no field {field!r}")
    key = value[field]
    if key is None or isinstance(key, str):
        return key
    if isinstance(key, (int, float)):  # true and false too
        return orjson.dumps(key).decode()
    raise ValueError(f"the field {field!r} is neither text nor a number")
