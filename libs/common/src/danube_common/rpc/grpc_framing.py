"""gRPC over HTTP/2 as bytes and headers: requests, metadata, timeouts, compression, statuses. Pure."""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from danube_common.rpc.port import RpcError, StatusCode

Headers = list[tuple[bytes, bytes]]

PREFIX: Final = struct.Struct(">BI")
"""What precedes each message: whether it is compressed, and its length."""
ENCODINGS: Final = b"identity,gzip"
"""What a request may be compressed with."""
STATUS_BYTES_MAX: Final = 1300
"""A status's message is cut to so many bytes, and a longer trailer is left out: percent or base64 encoding
enlarges them, and peers refuse a call whose headers are over 8 KiB."""
TIMEOUT_S_MAX: Final = 10 * 365 * 86400.0
"""A longer deadline of a client is none."""

_PRINTABLE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_RESERVED: Final = (b"grpc-", b":")
_TRANSPORT: Final = frozenset({b"content-type", b"te", b"host", b"content-length"})
_GZIP: Final = 16 + zlib.MAX_WBITS


class TooLarge(Exception):
    """A message is larger than the bound.

    Attributes:
        size: its bytes, as its prefix tells; 0 if only decompression showed that it is larger.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class RequestBody:
    """Collects the one message of a unary or server-streaming call, and no more bytes than it may have.

    Args:
        bytes_max: of the message, compressed and not.
        encoding: the value of ``grpc-encoding``.
    """

    def __init__(self, bytes_max: int, encoding: bytes = b"identity") -> None:
        if encoding not in (b"identity", b"gzip"):
            text = f"grpc-encoding {encoding.decode(errors='replace')[:20]!r} is not supported"
            raise RpcError(StatusCode.UNIMPLEMENTED, f"{text}, only gzip and identity are")
        self._bytes_max = bytes_max
        self._gzip = encoding == b"gzip"
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Raises TooLarge, RpcError."""
        self._body += chunk
        if len(self._body) < PREFIX.size:
            return
        _, length = PREFIX.unpack_from(self._body)
        if length > self._bytes_max:
            raise TooLarge(length)
        if len(self._body) > PREFIX.size + length:
            raise RpcError(StatusCode.INTERNAL, "the call takes one message, and more bytes came")

    def message(self) -> bytes:
        """Return the message after the last chunk. Raises TooLarge, RpcError."""
        if len(self._body) < PREFIX.size:
            raise RpcError(StatusCode.INTERNAL, "the call ended before its message began")
        compressed, length = PREFIX.unpack_from(self._body)
        if len(self._body) != PREFIX.size + length:
            have = len(self._body) - PREFIX.size
            raise RpcError(StatusCode.INTERNAL, f"the call ended after {have} of {length} bytes")
        message = bytes(memoryview(self._body)[PREFIX.size :])
        if not compressed:
            return message
        if compressed != 1 or not self._gzip:
            raise RpcError(StatusCode.INTERNAL, "the message is compressed and grpc-encoding is not gzip")
        return self._decompressed(message)

    def _decompressed(self, message: bytes) -> bytes:
        inflater = zlib.decompressobj(_GZIP)
        try:
            data = inflater.decompress(message, self._bytes_max + 1)
        except zlib.error as error:
            raise RpcError(StatusCode.INTERNAL, f"the message is no gzip: {error}") from None
        if len(data) > self._bytes_max:
            raise TooLarge(0)
        if not inflater.eof or inflater.unused_data:
            raise RpcError(StatusCode.INTERNAL, "the message is no whole gzip")
        return data


def framed(messages: Iterable[bytes]) -> bytes:
    """Return messages with their prefixes, uncompressed."""
    return b"".join(part for message in messages for part in (PREFIX.pack(0, len(message)), message))


def metadata_of(headers: Headers) -> dict[str, str | bytes]:
    """Return a call's metadata by lower-case name; those ending with ``-bin`` are bytes. Raises RpcError."""
    found: dict[str, str | bytes] = {}
    for name, value in headers:
        if name.startswith(_RESERVED) or name in _TRANSPORT:
            continue
        if name.endswith(b"-bin"):
            try:
                found[name.decode("latin-1")] = b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except (binascii.Error, ValueError):
                raise RpcError(StatusCode.INTERNAL, "a -bin header is no base64") from None
        else:
            found[name.decode("latin-1")] = value.decode("latin-1")
    return found


def timeout_s_of(value: bytes) -> float | None:
    """Return the seconds of a ``grpc-timeout``; None if they are too many to matter. Raises RpcError."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise RpcError(StatusCode.INTERNAL, "grpc-timeout is malformed")
    seconds = int(match[1]) * _UNITS_S[match[2]]
    return None if seconds > TIMEOUT_S_MAX else seconds


def status_headers(error: RpcError) -> tuple[Headers, list[str]]:
    """Return a status as headers or trailers, and the names of trailers that were too large to be sent.

    Raises ValueError for what gRPC cannot express: OK, or a trailer whose name does not fit its type.
    """
    wrong = [key for key, value in error.trailers.items() if isinstance(value, bytes) != key.endswith("-bin")]
    if wrong or error.code is StatusCode.OK:
        raise ValueError(f"not a status: {error.code.name} with {', '.join(wrong) or 'no trailers'}")
    message = error.message.encode(errors="replace")[:STATUS_BYTES_MAX].decode(errors="ignore")
    headers = [
        (b"grpc-status", b"%d" % error.code),
        (b"grpc-message", quote(message, safe=_PRINTABLE).encode()),
    ]
    large = sorted(key for key, value in error.trailers.items() if len(value) > STATUS_BYTES_MAX)
    for key, value in error.trailers.items():
        if key not in large:
            encoded = b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode()
            headers.append((key.lower().encode(), encoded))
    return headers, large
