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
CHUNK_BYTES_MIN: Final = 4096
"""Smaller pieces of a body are put together as they come: each alone would take more room than its bytes."""
TIMEOUT_S_MAX: Final = 10 * 365 * 86400.0
"""A longer deadline of a client is none."""

_PRINTABLE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_RESERVED: Final = (b"grpc-", b":")
_TRANSPORT: Final = frozenset(
    {
        *(b"content-type", b"te", b"host", b"content-length"),
        *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"),
    }
)
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

    __slots__ = ("_bytes_max", "_chunks", "_compressed", "_gzip", "_have", "_length")

    def __init__(self, bytes_max: int, encoding: bytes = b"identity") -> None:
        if encoding not in (b"identity", b"gzip"):
            text = f"grpc-encoding {encoding.decode(errors='replace')[:20]!r} is not supported"
            raise RpcError(StatusCode.UNIMPLEMENTED, f"{text}, only gzip and identity are")
        self._bytes_max = bytes_max
        self._gzip = encoding == b"gzip"
        self._chunks: list[bytes | bytearray] = []
        self._have = 0
        self._length: int | None = None
        self._compressed = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Raises TooLarge, RpcError."""
        if self._chunks and (len(chunk) < CHUNK_BYTES_MIN or self._length is None):
            self._append(chunk)
        else:
            self._chunks.append(chunk)
        self._have += len(chunk)
        if self._length is None:
            if self._have < PREFIX.size:
                return
            self._compressed, self._length = PREFIX.unpack_from(self._chunks[0])
            if self._length > self._bytes_max:
                raise TooLarge(self._length)
        if self._have > PREFIX.size + self._length:
            raise RpcError(StatusCode.INTERNAL, "the call takes one message, and more bytes came")

    def _append(self, chunk: bytes) -> None:
        """Add a small chunk to the one before it: a chunk of its own would cost more than its bytes."""
        last = self._chunks[-1]
        if not isinstance(last, bytearray):
            last = self._chunks[-1] = bytearray(last)
        last += chunk

    def message(self) -> bytes:
        """Return the message after the last chunk. Raises TooLarge, RpcError."""
        if self._length is None:
            raise RpcError(StatusCode.INTERNAL, "the call ended before its message began")
        if self._have != PREFIX.size + self._length:
            have = self._have - PREFIX.size
            raise RpcError(StatusCode.INTERNAL, f"the call ended after {have} of {self._length} bytes")
        first, *rest = self._chunks
        message = b"".join((memoryview(first)[PREFIX.size :], *rest)) if rest else bytes(first[PREFIX.size :])
        if not self._compressed:
            return message
        if self._compressed != 1 or not self._gzip:
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
        if name in _TRANSPORT or name.startswith(_RESERVED):
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
