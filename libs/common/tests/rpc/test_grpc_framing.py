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
    MessageReader,
    TooLarge,
    framed,
    metadata_of,
    status_headers,
    timeout_s_of,
    whole_message,
)
from danube_common.rpc.port import RpcError, StatusCode

BOUND = 100


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(data)) for each in at), len(data)]
    return [data[one:other] for one, other in pairwise(edges)]


def received(data: bytes, at: list[int], encoding: bytes = b"identity", bound: int = BOUND) -> list[bytes]:
    reader, messages = MessageReader(bound, encoding), []
    for chunk in cut(data, at):
        reader.add(chunk)
        while (message := reader.next()) is not None:
            messages.append(message)
    reader.end()
    return messages


def gzipped(message: bytes) -> bytes:
    compressed = gzip.compress(message)
    return PREFIX.pack(1, len(compressed)) + compressed


@given(messages=st.lists(st.binary(max_size=BOUND), max_size=5), at=st.lists(st.integers(0, 500), max_size=5))
def test_messages_arrive_however_their_bytes_are_cut(messages: list[bytes], at: list[int]) -> None:
    assert received(framed(messages), at) == messages


@given(
    messages=st.lists(st.tuples(st.binary(max_size=BOUND), st.booleans()), max_size=5),
    at=st.lists(st.integers(0, 500), max_size=5),
)
def test_gzip_messages_arrive_among_others_however_their_bytes_are_cut(
    messages: list[tuple[bytes, bool]], at: list[int]
) -> None:
    body = b"".join(gzipped(message) if zipped else framed([message]) for message, zipped in messages)
    assert received(body, at, b"gzip", bound=200) == [message for message, _ in messages]


def test_a_message_cut_into_single_bytes_needs_little_more_room_than_its_bytes() -> None:
    message = bytes(range(256)) * 400
    tracemalloc.start()
    try:
        reader = MessageReader(1 << 20)
        for byte in framed([message]):
            reader.add(bytes((byte,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.next() == message
    assert peak < 4 * len(message)


@given(data=st.binary(max_size=120))
def test_a_whole_message_is_what_the_reader_would_return(data: bytes) -> None:
    for body in (data, framed([data]), framed([data])[:-1], framed([data, b""]), gzipped(data)):
        message = whole_message(body, BOUND)
        assert message is None or [message] == received(body, [])
    assert (whole_message(framed([data]), BOUND) == data) is (len(data) <= BOUND)


@given(data=st.binary(max_size=120), at=st.lists(st.integers(0, 120), max_size=3))
def test_any_bytes_are_messages_or_a_status_and_nothing_worse(data: bytes, at: list[int]) -> None:
    for encoding in (b"identity", b"gzip"):
        with contextlib.suppress(TooLarge, RpcError):
            assert all(len(message) <= BOUND for message in received(data, at, encoding))


@given(length=st.integers(BOUND + 1, 1 << 31), before=st.lists(st.binary(max_size=BOUND), max_size=2))
def test_a_message_that_is_too_large_is_refused_by_its_first_bytes(length: int, before: list[bytes]) -> None:
    reader = MessageReader(BOUND)
    reader.add(framed(before) + PREFIX.pack(0, length))
    assert [reader.next() for _ in before] == before
    with pytest.raises(TooLarge) as caught:
        reader.next()
    assert caught.value.size == length


def test_a_message_that_is_too_large_once_decompressed_is_refused_before_it_is() -> None:
    bomb = zlib.compress(bytes(1 << 26), wbits=31)
    reader = MessageReader(1 << 20, b"gzip")
    reader.add(PREFIX.pack(1, len(bomb)) + bomb)
    with pytest.raises(TooLarge):
        reader.next()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\0\0\0", "inside the prefix"),
        (PREFIX.pack(0, 5) + b"abc", "after 3 of 5 bytes"),
        (PREFIX.pack(1, 3) + b"abc", "grpc-encoding is not gzip"),
    ],
)
@pytest.mark.parametrize("before", [[], [b"one", b""]])
def test_malformed_framing_is_told(data: bytes, text: str, before: list[bytes]) -> None:
    with pytest.raises(RpcError, match=text):
        received(framed(before) + data, [])


def test_an_encoding_that_is_not_supported_is_named() -> None:
    with pytest.raises(RpcError, match=r"'zstd' is not supported, only gzip") as caught:
        MessageReader(BOUND, b"zstd")
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
