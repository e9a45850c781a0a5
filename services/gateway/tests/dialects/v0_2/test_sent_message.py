from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from danube_common.errors import CorruptData, InvalidInput
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.wire.protobuf_fields import varint
from danube_gateway.dialects.v0_2 import sent_message
from danube_gateway.dialects.v0_2.producer_service import message_response
from danube_gateway.dialects.v0_2.sent_message import (
    WHOLE_BYTES_MAX,
    SentMessage,
    payload_place,
    read_sent_message,
)
from danube_proto import danube_api_pb2 as api

U64 = st.integers(0, (1 << 64) - 1)
GROUP_START, GROUP_END = 3, 4


def field(number: int, kind: int, value: bytes) -> bytes:
    """A field as it is on the wire."""
    return varint(number << 3 | kind) + value


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def padded(number: int, extra: int) -> bytes:
    """A varint that is longer than it need be."""
    plain = bytearray(varint(number))
    for _ in range(extra):
        plain[-1] |= 0x80
        plain.append(0)
    return bytes(plain)


TEXTS = st.text(max_size=8).map(lambda text: text.encode()) | st.sampled_from([b"\xff", b"\xc3"])
VARINTS = st.builds(padded, U64, st.integers(0, 3))
VALUES = st.one_of(
    st.tuples(st.just(0), VARINTS),
    st.tuples(st.just(1), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(2), st.binary(max_size=12).map(sized)),
    st.tuples(st.just(5), st.binary(min_size=4, max_size=4)),
)
ANY_FIELDS = st.builds(lambda number, value: field(number, *value), st.integers(1, 40), VALUES)
GROUPS = st.builds(
    lambda number, inner: field(number, GROUP_START, b"".join(inner)) + field(number, GROUP_END, b""),
    st.integers(1, 20),
    st.lists(ANY_FIELDS, max_size=2),
)
MSG_IDS = st.lists(
    st.one_of(
        st.builds(lambda number, value: field(number, 0, value), st.integers(1, 2), VARINTS),
        st.builds(lambda number, text: field(number, 2, sized(text)), st.integers(3, 4), TEXTS),
        ANY_FIELDS,
    ),
    max_size=5,
).map(b"".join)
FIELDS = st.one_of(
    st.builds(lambda value: field(1, 0, value), VARINTS),
    st.builds(lambda inner: field(2, 2, sized(inner)), MSG_IDS),
    st.builds(lambda payload: field(3, 2, sized(payload)), st.binary(max_size=300)),
    st.builds(lambda value: field(4, 0, value), VARINTS),
    st.builds(lambda number, text: field(number, 2, sized(text)), st.integers(5, 6), TEXTS),
    st.builds(
        lambda key, value: field(7, 2, sized(field(1, 2, sized(key)) + field(2, 2, sized(value)))),
        TEXTS,
        TEXTS,
    ),
    ANY_FIELDS,
    GROUPS,
)
MESSAGES = st.lists(FIELDS, max_size=8).map(b"".join)
DAMAGED = st.builds(
    lambda data, at, junk: data[: at % (len(data) + 1)] + junk,
    MESSAGES,
    st.integers(0, 400),
    st.binary(max_size=3),
)


def by_protobuf(data: bytes) -> SentMessage:
    """Read with protobuf's own parser."""
    message = parse_strict(api.StreamMessage, data)
    if not message.HasField("msg_id"):
        raise InvalidInput("the message has no msg_id")
    msg_id = message.msg_id
    return SentMessage(message.request_id, msg_id.producer_id, msg_id.sequence_id, message.payload)


def outcome(read: Callable[[bytes], SentMessage], data: bytes) -> SentMessage | type[Exception]:
    try:
        found = read(data)
    except (CorruptData, InvalidInput) as error:
        return type(error)
    return found._replace(payload=bytes(found.payload))


@pytest.mark.parametrize("whole_bytes_max", [0, 1 << 20], ids=["by places", "whole"])
@given(data=MESSAGES | DAMAGED | st.binary(max_size=60))
@example(data=b"\x1a\x05abc")  # a payload that is cut short
@example(data=b"\x12\x00\x1a\x01a\x1a\x01b")  # two payloads: the last one counts
@example(data=b"\x12\x00\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")  # a length beyond all
@example(data=b"\x12\x00\x20" + b"\xff" * 10 + b"\x01")  # a varint of eleven bytes
@example(data=b"\x12\x02\x0a\x00")  # a number that is a text, as other generations have it
@example(data=b"\x12\x00\x1b\x1c")  # a payload that is a group
def test_a_message_is_read_as_protobuf_reads_it(whole_bytes_max: int, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sent_message, "WHOLE_BYTES_MAX", whole_bytes_max)
        assert outcome(read_sent_message, data) == outcome(by_protobuf, data)


@given(data=MESSAGES | DAMAGED)
def test_the_place_of_a_payload_is_where_protobuf_finds_it(data: bytes) -> None:
    place = payload_place(data)
    if place is None:
        return
    _, start, end = place
    try:
        message = api.StreamMessage.FromString(data)
    except Exception:  # noqa: BLE001 - what is wrong lies elsewhere in the message
        return
    assert message.payload == data[start:end]


def test_a_large_payload_is_not_copied() -> None:
    payload = bytes(range(256)) * 1000
    assert len(payload) > WHOLE_BYTES_MAX
    data = api.StreamMessage(
        request_id=1, msg_id=api.MsgID(producer_id=7, sequence_id=9), payload=payload, attributes={"k": "v"}
    ).SerializeToString()
    read = read_sent_message(data)
    assert isinstance(read.payload, memoryview)
    assert read.payload.obj is data
    assert (read.request_id, read.producer_id, read.sequence_id) == (1, 7, 9)
    assert read.payload == payload


@given(request_id=U64, sequence_id=U64)
def test_an_answer_is_what_protobuf_writes(request_id: int, sequence_id: int) -> None:
    answer = api.MessageResponse(request_id=request_id, sequence_id=sequence_id)
    assert message_response(request_id, sequence_id) == answer.SerializeToString()
