"""Checks payloads against a schema type, and formats them for printing."""

from __future__ import annotations

import base64
from typing import Any, cast

import orjson

from danube_client import Message, SchemaType

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Sign and nineteen digits.
INT64_TEXT_MAX = 20


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
    """Return a message as text for people. Every type is called bytes, as in the original tool.

    Raises:
        ValueError: the payload has another type than the schema.
    """
    if schema is SchemaType.BYTES:
        shown = message.payload.decode(errors="backslashreplace").encode()
    elif schema is SchemaType.JSON:
        shown = orjson.dumps(decode(message.payload, schema), option=orjson.OPT_INDENT_2)
    else:
        shown = str(decode(message.payload, schema)).encode()
    line = b"Received bytes message: %d, with payload: %b" % (message.sequence_id, shown)
    if message.attributes:
        pairs = ", ".join(f"{key}={value}" for key, value in sorted(message.attributes.items()))
        line += f", with attributes: {pairs}".encode()
    return line + b"\n"


def as_json(message: Message, schema: SchemaType) -> bytes:
    """Return a message as one line of JSON. Bytes that are not UTF-8 become base64 in ``payload_base64``.

    Raises:
        ValueError: the payload has another type than the schema.
    """
    shown: dict[str, Any] = {
        "topic": message.topic,
        "producer": message.producer_name,
        "sequence_id": message.sequence_id,
        "publish_time_ms": message.publish_time_ms,
        "attributes": dict(message.attributes),
    }
    try:
        value = decode(message.payload, schema)
        # JSON is passed on unchanged, so that numbers keep all digits, unless it contains newlines.
        exact = schema is SchemaType.JSON and b"\n" not in message.payload
        shown["payload"] = orjson.Fragment(message.payload) if exact else value
    except ValueError:
        if schema is not SchemaType.BYTES:
            raise
        shown["payload_base64"] = base64.b64encode(message.payload).decode()
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def as_raw(message: Message, _schema: SchemaType) -> bytes:
    """Return the payload and a newline, without any check."""
    return message.payload + b"\n"


def _int64(text: str) -> int:
    digits = text.removeprefix("-").removeprefix("+") if len(text) <= INT64_TEXT_MAX else ""
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"not a 64-bit integer in decimal: {text[:40]!r}")
    value = int(text)
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"beyond 64 bits: {text}")
    return value
