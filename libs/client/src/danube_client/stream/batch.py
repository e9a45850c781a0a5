"""Batches: messages side by side, as `danube.stream.v1.Batch` carries them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

import google_crc32c

from danube_client.errors import ClientError
from danube_client.tracing import ATTRIBUTE
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

TABLE_ENTRY_BYTES: Final = 4
"""Of each message, beside its own bytes."""
HEADS_MAX: Final = 4096
TRACED_MAX: Final = 32
"""Messages of a batch whose traces gateways record."""
ZSTD_LEVEL: Final = 3

_TRACED: Final = b"\x0a\x0btraceparent\x12"
"""How the attribute begins in a serialized message."""

Entry = tuple[bytes, bytes, bytes, int, Any]
"""One encoded message: three pieces of bytes, their sum in bytes, and what its sender waits for."""


class Compression(IntEnum):
    """How the batches of a producer are compressed. The numbers are those of the wire."""

    NONE = 0
    ZSTD = 1
    LZ4 = 2


class BadBatch(ClientError):
    """A batch is not what it says: it was damaged on its way."""


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class MessageEncoder:
    """Encodes the messages of one producer without copying their payloads.

    Attributes:
        traced: whether a message had a trace, so that `traced_of` must look for more.
    """

    def __init__(self, producer_name: str) -> None:
        self.traced = False
        name = producer_name.encode()
        self._name = b"\x2a" + varint(len(name)) + name
        self._now_ms = -1
        self._tail = b""
        self._heads: dict[int, bytes] = {}

    def encode(
        self,
        payload: bytes,
        now_ms: int,
        key: str | None,
        attributes: Mapping[str, str] | None,
        outcome: object,
    ) -> Entry:
        """Return the entry of a message that is published at ``now_ms``. Raises TypeError."""
        size = len(payload)
        head = self._heads.get(size)
        if head is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            head = self._heads[size] = b"\x1a" + varint(size)
        if now_ms != self._now_ms:
            self._now_ms = now_ms
            self._tail = b"\x20" + varint(now_ms) + self._name
        tail = self._tail
        if key is not None or attributes:
            try:
                tail += wire.StreamMessage(routing_key=key, attributes=attributes).SerializeToString()
            except TypeError:
                raise TypeError("a key is text, and attributes are texts by their names") from None
            if attributes and ATTRIBUTE in attributes:
                self.traced = True
        return head, payload, tail, len(head) + size + len(tail), outcome


def traced_of(entries: Sequence[Entry]) -> list[int]:
    """Return the indexes of the first TRACED_MAX entries that have a trace.

    What was sent before, and is sent again in other batches, has none.
    """
    found = [index for index, entry in enumerate(entries) if _TRACED in entry[2]]
    return found[:TRACED_MAX]


def pack(
    entries: Sequence[Entry], compression: Compression = Compression.NONE, into: api.Batch | None = None
) -> api.Batch:
    """Return the batch of the entries. ``into`` is one to fill: a field that is set later would be copied."""
    ends: list[int] = []
    pieces: list[bytes] = [b""]
    end = 0
    for head, payload, tail, size, _ in entries:
        end += size
        ends.append(end)
        pieces += (head, payload, tail)
    pieces[0] = struct.pack(f"<{len(ends)}I", *ends)
    body = b"".join(pieces)
    batch = api.Batch() if into is None else into
    batch.messages, batch.crc32c, batch.body_bytes = len(ends), google_crc32c.value(body), len(body)
    if compression is Compression.NONE:
        batch.body = body
        return batch
    compressed = _compress(body, compression)
    if len(compressed) < len(body):
        batch.body = compressed
        batch.compression = api.COMPRESSION_ZSTD if compression is Compression.ZSTD else api.COMPRESSION_LZ4
    else:
        batch.body = body
    return batch


def unpack(batch: api.Batch) -> list[bytes]:
    """Return the serialized messages of a batch.

    Raises:
        BadBatch: its checksum or its table is wrong.
        ClientError: the library of its compression is not installed.
    """
    body = batch.body
    if batch.compression:
        body = _decompress(body, batch.compression, batch.body_bytes)
    if google_crc32c.value(body) != batch.crc32c:
        raise BadBatch("a batch fails its checksum")
    count = batch.messages
    base = TABLE_ENTRY_BYTES * count
    if len(body) < base:
        raise BadBatch("a batch is shorter than its table")
    ends = struct.unpack_from(f"<{count}I", body)
    messages = []
    start = 0
    for end in ends:
        if end < start:
            raise BadBatch("the table of a batch does not ascend")
        messages.append(body[base + start : base + end])
        start = end
    if base + start != len(body):
        raise BadBatch("the table of a batch does not fit its bytes")
    return messages


def require(compression: Compression) -> None:
    """Raise ClientError if the library of a compression is not installed."""
    if compression is not Compression.NONE:
        _compress(b"", compression)


def available() -> list[Compression]:
    """Return the compressions whose libraries are installed, in the order of preference."""
    found = []
    for compression in (Compression.LZ4, Compression.ZSTD):
        try:
            require(compression)
        except ClientError:
            continue
        found.append(compression)
    return found


def _compress(data: bytes, compression: Compression) -> bytes:
    if compression is Compression.ZSTD:
        compressed: bytes = _library("zstandard").ZstdCompressor(level=ZSTD_LEVEL).compress(data)
    else:
        compressed = _library("lz4.frame").compress(data)
    return compressed


def _decompress(data: bytes, compression: int, size: int) -> bytes:
    try:
        if compression == Compression.ZSTD:
            zstd = _library("zstandard")
            body: bytes = zstd.ZstdDecompressor().decompress(data, max_output_size=size)
        elif compression == Compression.LZ4:
            body = _library("lz4.frame").LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        else:
            raise BadBatch(f"compression {compression} is not known to this client: install a newer one")
    except ClientError:
        raise
    except Exception as error:  # each library has errors of its own
        raise BadBatch(f"a batch cannot be decompressed: {error}") from error
    if len(body) != size:
        raise BadBatch("a batch has another size than it says")
    return body


def _library(name: str) -> Any:
    import importlib  # noqa: PLC0415 - only those who compress need it

    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ClientError(f"this compression needs the package {package}: pip install {package}") from None
