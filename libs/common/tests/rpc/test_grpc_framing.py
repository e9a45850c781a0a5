from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from base64 import b64encode
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.rpc.grpc_framing import (
    PREFIX,
    RequestBody,
    TooLarge,
    framed,
    metadata_of,
    status_headers,
    timeout_s_of,
)
from danube_common.rpc.port import RpcError, StatusCode

MESSAGES = st.binary(max_size=200)
BOUND = 100


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(data)) for each in at), len(data)]
    return [data[one:other] for one, other in pairwise(edges)]


def received(data: bytes, at: list[int], encoding: bytes = b"identity", bound: int = BOUND) -> bytes:
    body = RequestBody(bound, encoding)
    for chunk in cut(data, at):
        body.add(chunk)
    return body.message()


@given(message=st.binary(max_size=BOUND), at=st.lists(st.integers(0, 120), max_size=5))
def test_a_message_arrives_however_its_bytes_are_cut(message: bytes, at: list[int]) -> None:
    assert received(framed([message]), at) == message


def test_a_message_cut_into_single_bytes_needs_little_more_room_than_its_bytes() -> None:
    message = bytes(range(256)) * 400
    tracemalloc.start()
    try:
        body = RequestBody(1 << 20)
        for byte in framed([message]):
            body.add(bytes((byte,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.message() == message
    assert peak < 4 * len(message)


@given(message=st.binary(max_size=BOUND), at=st.lists(st.integers(0, 120), max_size=5))
def test_a_gzip_message_arrives_however_its_bytes_are_cut(message: bytes, at: list[int]) -> None:
    compressed = gzip.compress(message)
    body = PREFIX.pack(1, len(compressed)) + compressed
    assert received(body, at, b"gzip", bound=200) == message


@given(data=st.binary(max_size=120), at=st.lists(st.integers(0, 120), max_size=3))
def test_any_bytes_are_a_message_or_a_status_and_nothing_worse(data: bytes, at: list[int]) -> None:
    for encoding in (b"identity", b"gzip"):
        with contextlib.suppress(TooLarge, RpcError):
            assert len(received(data, at, encoding)) <= BOUND


@given(length=st.integers(BOUND + 1, 1 << 31))
def test_a_message_that_is_too_large_is_refused_by_its_first_bytes(length: int) -> None:
    with pytest.raises(TooLarge) as caught:
        RequestBody(BOUND).add(PREFIX.pack(0, length))
    assert caught.value.size == length


def test_a_message_that_is_too_large_once_decompressed_is_refused_before_it_is() -> None:
    bomb = zlib.compress(bytes(1 << 26), wbits=31)
    body = RequestBody(1 << 20, b"gzip")
    body.add(PREFIX.pack(1, len(bomb)) + bomb)
    with pytest.raises(TooLarge):
        body.message()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "before its message began"),
        (b"\0\0\0", "before its message began"),
        (PREFIX.pack(0, 5) + b"abc", "after 3 of 5 bytes"),
        (PREFIX.pack(1, 3) + b"abc", "grpc-encoding is not gzip"),
        (framed([b"one", b"two"]), "takes one message"),
    ],
)
def test_malformed_framing_is_told(data: bytes, text: str) -> None:
    with pytest.raises(RpcError, match=text):
        received(data, [])


def test_an_encoding_that_is_not_supported_is_named() -> None:
    with pytest.raises(RpcError, match=r"'zstd' is not supported, only gzip") as caught:
        RequestBody(BOUND, b"zstd")
    assert caught.value.code is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"5S", 5.0), (b"100m", 0.1), (b"2H", 7200.0), (b"1M", 60.0), (b"7u", 7e-6), (b"9n", 9e-9)],
)
def test_a_timeout_is_read_in_its_unit(value: bytes, seconds: float) -> None:
    assert timeout_s_of(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"5", b"5s", b"-5S", b"123456789S", b"5 S", b"5S\n"])
def test_what_is_no_timeout_is_told(value: bytes) -> None:
    with pytest.raises(RpcError, match="grpc-timeout is malformed"):
        timeout_s_of(value)


def test_a_timeout_of_centuries_is_none() -> None:
    assert timeout_s_of(b"99999999H") is None


@given(value=st.binary(max_size=50), padded=st.booleans())
def test_binary_metadata_is_read_with_and_without_padding(value: bytes, padded: bool) -> None:
    encoded = b64encode(value) if padded else b64encode(value).rstrip(b"=")
    headers = [(b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"x-bin", encoded), (b"y", b"z")]
    assert metadata_of(headers) == {"x-bin": value, "y": "z"}


def test_binary_metadata_that_is_no_base64_is_told() -> None:
    with pytest.raises(RpcError, match="no base64"):
        metadata_of([(b"x-bin", b"\xff\xff")])


@given(text=st.text(max_size=100))
def test_a_status_message_is_ascii_and_reads_back(text: str) -> None:
    headers, _ = status_headers(RpcError(StatusCode.NOT_FOUND, text))
    message = dict(headers)[b"grpc-message"]
    assert all(0x20 <= byte < 0x7F for byte in message)
    assert unquote(message.decode()) == text.encode(errors="replace").decode()
