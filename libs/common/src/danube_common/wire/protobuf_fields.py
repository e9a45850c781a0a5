"""Reads and writes single fields of serialized protobuf messages without their descriptors. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

VARINT_BITS_MAX: Final = 70
"""Of the ten bytes that a number takes at most."""
_SIZES: Final = {FIXED64: 8, FIXED32: 4}


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field, up to the first that cannot be read."""
    at = 0
    try:
        while at < len(data):
            tag, at = varint_at(data, at, len(data))
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, at = varint_at(data, at, len(data))
                yield number, value
                continue
            if kind == LENGTH:
                size, at = varint_at(data, at, len(data))
            else:
                size = _SIZES[kind]
            if at + size > len(data):
                return
            yield number, data[at : at + size]
            at += size
    except (IndexError, KeyError, Malformed):
        return


def last_texts(data: bytes, number: int, fallback: int) -> bytes:
    """Return the last value of the text field ``number``, or of ``fallback`` if that is missing or empty.

    Other fields are passed without a copy. What follows a field that cannot be read does not count.
    """
    found = other = b""
    wanted, spare = number << 3 | LENGTH, fallback << 3 | LENGTH
    at, end = 0, len(data)
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag > 0x7F:
                tag, at = varint_at(data, at - 1, len(data))
            kind = tag & 7
            if kind == LENGTH:
                size = data[at]
                at += 1
                if size > 0x7F:
                    size, at = varint_at(data, at - 1, len(data))
                if tag == wanted:
                    found = data[at : at + size]
                elif tag == spare:
                    other = data[at : at + size]
                at += size
            elif kind == VARINT:
                while data[at] > 0x7F:
                    at += 1
                at += 1
            else:
                at += _SIZES[kind]
    except (IndexError, KeyError, Malformed):
        pass
    return found or other


def text_field(number: int, text: str) -> bytes:
    """Return a field of text."""
    return length_field(number, text.encode())


def length_field(number: int, value: bytes) -> bytes:
    """Return a field of bytes, of text or of a message. ``number`` is at most 15."""
    return bytes((number << 3 | LENGTH,)) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """Return protobuf's base-128 encoding of a non-negative integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint_at(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends. Raises Malformed."""
    value = shift = 0
    while at < end and shift < VARINT_BITS_MAX:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a number is cut or too long")
