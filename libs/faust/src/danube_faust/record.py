"""What Faust calls a record, as a Danube message, and back.

A record's key, value and headers are bytes, and each of them may be absent. A message has a payload of bytes,
and a routing key and attributes of text. What is not text travels in attributes of this module's own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

OWN: Final = "faust."
"""How the names of attributes begin that are no headers."""
KEY: Final = "faust.key"
"""The key in Base64, where it is not UTF-8; the routing key is the same text."""
NULL: Final = "faust.null"
"""Says that the value is absent, which deletes a table's key."""
TIMESTAMP: Final = "faust.timestamp"
"""Milliseconds since the epoch that the sender gave; else the time of publishing counts."""
HEADER: Final = "faust.header."
"""Before the name of a header whose value, in Base64, is not UTF-8."""

Headers = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]


class Outgoing(NamedTuple):
    """The arguments of ``Producer.post``."""

    payload: bytes
    attributes: dict[str, str]
    key: str | None


class Incoming(NamedTuple):
    """The parts of a record."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_s: float | None


def outgoing(
    key: bytes | None, value: bytes | None, headers: Headers | None = None, timestamp_s: float | None = None
) -> Outgoing:
    """Return the message of a record."""
    attributes: dict[str, str] = {}
    routing_key = None
    if key is not None:
        try:
            routing_key = key.decode()
        except UnicodeDecodeError:
            routing_key = attributes[KEY] = _encode(key)
    if value is None:
        attributes[NULL] = "value"
    if timestamp_s is not None:
        attributes[TIMESTAMP] = str(round(timestamp_s * 1000))
    for name, content in _pairs(headers):
        data = content.encode() if isinstance(content, str) else content or b""
        try:
            text = data.decode()
            if name.startswith(OWN):
                raise ValueError(f"a header's name cannot begin with {OWN!r}: {name!r}")
            attributes[name] = text
        except UnicodeDecodeError:
            attributes[HEADER + name] = _encode(data)
    return Outgoing(value or b"", attributes, routing_key)


def incoming(payload: bytes, attributes: Mapping[str, str], key: str | None) -> Incoming:
    """Return the record of a message, which may come from any Danube client."""
    if not attributes:
        return Incoming(None if key is None else key.encode(), payload, [], None)
    data = None if key is None else key.encode()
    if (encoded := attributes.get(KEY)) is not None:
        data = _decode(encoded)
    headers = []
    for name, content in attributes.items():
        if name.startswith(HEADER):
            headers.append((name.removeprefix(HEADER), _decode(content)))
        elif not name.startswith(OWN):
            headers.append((name, content.encode()))
    stamp = attributes.get(TIMESTAMP, "")
    return Incoming(
        data,
        None if NULL in attributes else payload,
        headers,
        int(stamp) / 1000 if stamp.isascii() and stamp.isdecimal() else None,
    )


def _pairs(headers: Headers | None) -> Iterable[tuple[str, bytes | str | None]]:
    if headers is None:
        return ()
    return headers.items() if isinstance(headers, Mapping) else headers


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text.encode()  # of a client that means something else by the name
