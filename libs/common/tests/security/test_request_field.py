from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.security.request_field import text_field
from danube_proto import danube_api_pb2 as api


@given(st.text(max_size=300), st.text(max_size=20), st.integers(0, 2**64 - 1))
def test_a_field_is_read_as_the_handlers_read_it(topic: str, name: str, number: int) -> None:
    request = api.ConsumerRequest(request_id=number, topic_name=topic, consumer_name=name)
    assert text_field(request.SerializeToString(), 2) == topic


@given(st.binary(max_size=60))
def test_no_bytes_mean_another_topic_to_the_guard_than_to_the_handler(data: bytes) -> None:
    try:
        found = text_field(data, 2)
    except InvalidInput:
        return
    try:
        request = api.ConsumerRequest.FromString(data)
    except DecodeError:
        return
    assert request.topic_name == found


TOPIC = b"\x12\x04/a/b"


@pytest.mark.parametrize(
    "data",
    [
        TOPIC + b"\x12\x04/c/d",
        TOPIC + b"\x10\x01",
        TOPIC[:-1],
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x13" + TOPIC + b"\x14",
        b"\x92\x80\x80\x80\x80\x80\x80\x80\x80\x00\x04/a/b"[:3],
        b"\x12\x02\xff\xfe",
        b"\x92\x80\x80\x80\x80\x01\x04/a/b",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        text_field(data, 2)


def test_a_field_that_is_missing_is_empty() -> None:
    assert text_field(b"\x08\x01", 2) == ""
