"""Reads the batches that clients publish: checks what other clients will receive. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import google_crc32c
import lz4.frame  # type: ignore[import-untyped]
import zstandard
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from danube_common.errors import CorruptData, LimitExceeded
from danube_common.model.position import MESSAGES_PER_SECTION_MAX
from danube_gateway.publish.ready_batch import Body, Message
from danube_gateway.publish.subject_checks import SchemaStamp
from danube_proto import danube_stream_pb2 as api

BATCH_BYTES_MAX: Final = 1024 * 1024
"""Of a batch of several messages; a batch of one is bounded by the message's size."""
ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024


class BadMessage(CorruptData):
    """A message of a batch cannot be stored; ``index`` is its place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"message {index} of the batch {reason}")
        self.index = index


def read_body(batch: api.Batch, single_bytes_max: int) -> Body:
    """Decompress a batch, and check its checksum and its table.

    Args:
        batch: as it came.
        single_bytes_max: of the body of a batch of one message.

    Raises:
        LimitExceeded: it has too many messages or bytes.
        CorruptData: it is not what it says.
    """
    messages, sent = batch.messages, batch.body  # each look at a field of bytes copies it
    if messages > MESSAGES_PER_SECTION_MAX:
        raise LimitExceeded(
            "batch_messages_max", f"a batch has at most {MESSAGES_PER_SECTION_MAX} messages, not {messages}"
        )
    if messages == 0:
        raise CorruptData("the batch has no messages")
    bytes_max = batch_bytes_max(messages, single_bytes_max)
    size = batch.body_bytes if batch.compression else len(sent)
    if size > bytes_max:
        raise LimitExceeded(
            "batch_bytes_max", f"a batch of {messages} messages has at most {bytes_max} bytes, not {size}"
        )
    if batch.body_bytes != size:
        raise CorruptData(f"the batch has {size} bytes, and says {batch.body_bytes}")
    data = _decompressed(sent, batch.compression, size) if batch.compression else sent
    if google_crc32c.value(data) != batch.crc32c:
        raise CorruptData("the batch fails its checksum")
    table = 4 * messages
    if len(data) < table:
        raise CorruptData(f"{len(data)} bytes are too short for {messages} messages")
    ends = struct.unpack_from(f"<{messages}I", data)
    if ends[-1] != len(data) - table or tuple(sorted(ends)) != ends:
        raise CorruptData("the table of the batch does not fit its bytes")
    return Body(data, batch.crc32c, ends)


def batch_bytes_max(messages: int, single_bytes_max: int) -> int:
    """Return how large the body of a batch may be."""
    return max(BATCH_BYTES_MAX, single_bytes_max) if messages == 1 else BATCH_BYTES_MAX


def read_messages(body: Body) -> Iterator[Message]:
    """Yield the messages of a batch; raises BadMessage at the first one that must not be stored.

    A field that is not StoredMessage's, or of another wire type, is refused: the position and the names of
    a delivery are written into the fields that are missing here, and clients refuse a broken message.
    """
    data, base = body.data, 4 * len(body.ends)
    parse, unknown = api.StoredMessage.FromString, UnknownFieldSet
    start = base
    for index, offset in enumerate(body.ends):
        end = base + offset
        try:
            message = parse(data[start:end])
        except DecodeError:
            raise BadMessage(index, "is no StoredMessage") from None
        if len(fields := unknown(message)):
            raise BadMessage(index, f"has the field {fields[0].field_number}, which is none of StoredMessage")
        stamp = None
        if message.HasField("schema_id"):
            version = message.schema_version if message.HasField("schema_version") else None
            stamp = SchemaStamp(message.schema_id, version)
        yield Message(end - start, message.payload, stamp)
        start = end


def _decompressed(sent: bytes, compression: int, size: int) -> bytes:
    """Return the body, which has exactly ``size`` bytes: never more is allocated. Raises CorruptData."""
    match compression:
        case api.COMPRESSION_ZSTD:
            try:
                if zstandard.frame_content_size(sent) not in (-1, size):
                    raise CorruptData(f"the zstd frame does not hold {size} bytes")
                reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
                data = reader.decompress(sent, max_output_size=size, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise CorruptData(f"the batch is no zstd frame of {size} bytes: {error}") from None
        case api.COMPRESSION_LZ4:
            inflater = lz4.frame.LZ4FrameDecompressor()
            try:
                data = inflater.decompress(sent, max_length=size + 1)
            except RuntimeError as error:
                raise CorruptData(f"the batch is no LZ4 frame: {error}") from None
            if not inflater.eof or inflater.unused_data:
                raise CorruptData(f"the batch is no LZ4 frame of {size} bytes")
        case _:
            raise CorruptData(f"compression {compression} is none of this platform")
    if len(data) != size:
        raise CorruptData(f"the batch has {len(data)} bytes once decompressed, and says {size}")
    return data
