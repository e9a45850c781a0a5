from __future__ import annotations

import struct

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import CorruptData, LimitExceeded
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.dialects.stream.batches import BATCH_BYTES_MAX, BadMessage, read_body, read_messages
from danube_harness.traffic.publish_stream import batch_of_body, body_of
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_stream_pb2 as api

SINGLE_BYTES_MAX = 2 * BATCH_BYTES_MAX
TEXTS = st.text(max_size=8)
MESSAGES = st.builds(
    api.StoredMessage,
    payload=st.binary(max_size=40),
    publish_time=st.integers(0, (1 << 64) - 1),
    producer_name=TEXTS,
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=2),
    schema_id=st.none() | st.integers(0, 9),
    routing_key=st.none() | TEXTS,
)


def compressed(batch: api.Batch, kind: str) -> api.Batch:
    if kind == "zstd":
        batch.body = zstandard.ZstdCompressor().compress(batch.body)
        batch.compression = api.COMPRESSION_ZSTD
    elif kind == "zstd stream":  # without its size in the head
        batch.body = zstandard.ZstdCompressor(write_content_size=False).compress(batch.body)
        batch.compression = api.COMPRESSION_ZSTD
    elif kind == "lz4":
        batch.body = lz4.frame.compress(batch.body)
        batch.compression = api.COMPRESSION_LZ4
    return batch


COMPRESSIONS = st.sampled_from(["", "zstd", "zstd stream", "lz4"])


@given(st.lists(MESSAGES, min_size=1, max_size=6), COMPRESSIONS)
def test_what_was_sent_is_read(messages: list[api.StoredMessage], compression: str) -> None:
    data = body_of([message.SerializeToString() for message in messages])
    body = read_body(compressed(batch_of_body(data, len(messages)), compression), SINGLE_BYTES_MAX)
    assert body.data == data
    found = list(read_messages(body))
    assert [message.payload for message in found] == [message.payload for message in messages]
    assert [message.size for message in found] == [message.ByteSize() for message in messages]
    stamps = [message.stamp.schema_id if message.stamp else None for message in found]
    assert stamps == [m.schema_id if m.HasField("schema_id") else None for m in messages]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4))
def test_a_message_that_is_taken_is_one_of_v0_2_without_the_fields_of_a_delivery(
    messages: list[bytes],
) -> None:
    body = read_body(batch_of_body(body_of(messages), len(messages)), SINGLE_BYTES_MAX)
    try:
        list(read_messages(body))
    except BadMessage:
        return
    for data in messages:
        message = parse_strict(v0_2.StreamMessage, data)
        assert not message.HasField("msg_id")
        assert not message.request_id
        assert not message.subscription_name


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 6), COMPRESSIONS)
def test_a_body_that_is_taken_has_a_table_that_fits(data: bytes, messages: int, compression: str) -> None:
    try:
        body = read_body(compressed(batch_of_body(data, messages), compression), SINGLE_BYTES_MAX)
    except CorruptData:
        return
    assert list(body.ends) == sorted(body.ends)
    assert body.ends[-1] == len(data) - 4 * messages


@given(st.binary(max_size=60), st.sampled_from([api.COMPRESSION_ZSTD, api.COMPRESSION_LZ4]))
def test_bytes_that_are_no_compressed_body_are_refused(data: bytes, compression: api.Compression) -> None:
    batch = api.Batch(body=data, messages=1, body_bytes=len(data) + 9, compression=compression)
    with pytest.raises(CorruptData):
        read_body(batch, SINGLE_BYTES_MAX)


@pytest.mark.parametrize("kind", ["zstd", "zstd stream", "lz4"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_body_of_another_size_than_it_says_is_refused(kind: str, more: int) -> None:
    """Also one that is far larger: no more than it says is decompressed."""
    for size in (100, 50_000_000):
        batch = compressed(batch_of_body(struct.pack("<I", size - 4) + bytes(size - 4), 1), kind)
        batch.body_bytes = 100 + more
        with pytest.raises(CorruptData):
            read_body(batch, SINGLE_BYTES_MAX)


def test_bytes_behind_a_compressed_body_are_refused() -> None:
    for kind in ("zstd", "lz4"):
        batch = compressed(batch_of_body(body_of([b""]), 1), kind)
        batch.body += b"x"
        with pytest.raises(CorruptData):
            read_body(batch, SINGLE_BYTES_MAX)


def test_only_a_single_message_may_be_large() -> None:
    large = bytes(BATCH_BYTES_MAX)
    assert read_body(batch_of_body(body_of([large]), 1), SINGLE_BYTES_MAX)
    with pytest.raises(LimitExceeded):
        read_body(batch_of_body(body_of([large, b""]), 2), SINGLE_BYTES_MAX)
    with pytest.raises(LimitExceeded):
        read_body(batch_of_body(body_of([bytes(SINGLE_BYTES_MAX)]), 1), SINGLE_BYTES_MAX)
