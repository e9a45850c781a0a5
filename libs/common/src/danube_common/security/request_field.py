"""Finds a text field of a serialized request, and refuses what two parsers might read in two ways. Pure."""

from __future__ import annotations

from danube_common.errors import InvalidInput

_VARINT = 0
_FIXED64 = 1
_LENGTH = 2
_FIXED32 = 5
_TAG_BITS = 32
_VARINT_BYTES_MAX = 10


def text_field(data: bytes, number: int) -> str:
    """Return the text of a field; empty if it is missing.

    Raises:
        InvalidInput: the bytes are no message, or hold the field more than once.
    """
    found: bytes | None = None
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _LENGTH:
            length, start = _varint(data, at, end)
            at = start + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise InvalidInput("the request is malformed")
        if at > end or tag >> _TAG_BITS:
            raise InvalidInput("the request is malformed")
        if tag >> 3 == number:
            if kind != _LENGTH or found is not None:
                raise InvalidInput(f"the request's field {number} is repeated or of another type")
            found = data[start:at]
    try:
        return (found or b"").decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"the request's field {number} is not UTF-8") from None


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for byte in data[at : min(end, at + _VARINT_BYTES_MAX)]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise InvalidInput("the request is malformed")
