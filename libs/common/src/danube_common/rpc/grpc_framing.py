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


class MessageReader:
    """Cuts the body of a request into its messages, and holds no more bytes than one chunk and one message.

    Args:
        bytes_max: of a message, compressed and not.
        encoding: the value of ``grpc-encoding``.
    """

    __slots__ = ("_at", "_bytes_max", "_gzip", "_held")

    def __init__(self, bytes_max: int, encoding: bytes = b"identity") -> None:
        if encoding not in (b"identity", b"gzip"):
            text = f"grpc-encoding {encoding.decode(errors='replace')[:20]!r} is not supported"
            raise RpcError(StatusCode.UNIMPLEMENTED, f"{text}, only gzip and identity are")
        self._bytes_max = bytes_max
        self._gzip = encoding == b"gzip"
        self._held: bytes | bytearray = b""
        self._at = 0

    @property
    def held(self) -> int:
        """Bytes that came and are not part of a message that was returned."""
        return len(self._held) - self._at

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if not self.held:
            self._held, self._at = chunk, 0
            return
        if not isinstance(self._held, bytearray):
            self._held = bytearray(self._held)
        del self._held[: self._at]
        self._at = 0
        self._held += chunk

    def next(self) -> bytes | None:
        """Return the next message; None if it has not arrived in full.

        Raises:
            TooLarge: as soon as the message's prefix says so, or its decompression.
            RpcError: the message is malformed.
        """
        start = self._at + PREFIX.size
        if len(self._held) < start:
            return None
        compressed, length = PREFIX.unpack_from(self._held, self._at)
        if length > self._bytes_max:
            raise TooLarge(length)
        if len(self._held) < start + length:
            return None
        self._at = start + length
        with memoryview(self._held) as held:
            message = bytes(held[start : self._at])
        return self._decompressed(compressed, message) if compressed else message

    def end(self) -> None:
        """Tell that no more bytes come. Raises RpcError if a message is incomplete."""
        if 0 < self.held < PREFIX.size:
            raise RpcError(StatusCode.INTERNAL, "the call ended inside the prefix of a message")
        if self.held:
            _, length = PREFIX.unpack_from(self._held, self._at)
            have = self.held - PREFIX.size
            raise RpcError(StatusCode.INTERNAL, f"the call ended after {have} of {length} bytes of a message")

    def _decompressed(self, flag: int, message: bytes) -> bytes:
        if flag != 1 or not self._gzip:
            raise RpcError(StatusCode.INTERNAL, "the message is compressed and grpc-encoding is not gzip")
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


def announced_bytes(body: bytes, bytes_max: int) -> int:
    """Return how many bytes the message that ``body`` begins may need: ``bytes_max`` if that is not known."""
    if len(body) < PREFIX.size:
        return bytes_max if body else 0
    compressed, length = PREFIX.unpack_from(body)
    return bytes_max if compressed else min(length, bytes_max)


def whole_message(body: bytes, bytes_max: int) -> bytes | None:
    """Return the message if ``body`` is exactly one, neither compressed nor too large: the usual request."""
    if len(body) < PREFIX.size:
        return None
    compressed, length = PREFIX.unpack_from(body)
    if compressed or length > bytes_max or len(body) != PREFIX.size + length:
        return None
    return body[PREFIX.size :]


def framed(messages: Iterable[bytes]) -> bytes:
    """Return messages with their prefixes, uncompressed."""
    return b"".join(part for message in messages for part in (PREFIX.pack(0, len(message)), message))


def metadata_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str | bytes]:
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
