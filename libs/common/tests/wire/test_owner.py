from __future__ import annotations

import types
import typing
from enum import Enum
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import (
    AlreadyExists,
    CorruptData,
    DanubeError,
    InvalidInput,
    InvalidName,
    LimitExceeded,
    LogFull,
    MetadataUnavailable,
    NotFound,
    Refused,
    RequestTimeout,
    SchemaViolation,
    Unavailable,
)
from danube_common.wire.envelope import error_of, error_reply
from danube_common.wire.owner.acknowledgements import ACKED_POSITIONS_MAX, TopicAcks, ack_ranges, span_ranges
from danube_common.wire.owner.notices import SessionEnded, decode_notice, encode_notice
from danube_common.wire.owner.protocol import OWNER, OwnerRequest
from danube_common.wire.owner.sessions import ConsumerFound, Sync


def values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of a type that stands in a message."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return st.one_of([values(one) for one in arguments])
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if origin is tuple and arguments[-1] is ...:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if kind is str:
        return st.text(max_size=12)
    if kind is int:
        return st.integers(0, (1 << 63) - 1)
    if kind is bool:
        return st.booleans()
    if kind is bytes:
        return st.binary(max_size=12)
    if kind is types.NoneType:
        return st.none()
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    assert issubclass(kind, msgspec.Struct)
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


@given(values(OwnerRequest))
def test_a_request_is_read_as_it_was_asked(request: OwnerRequest) -> None:
    assert OWNER.decode_request(OWNER.encode(request)) == request


@given(values(OWNER.replies))
def test_a_reply_is_read_as_it_was_given(reply: msgspec.Struct) -> None:
    assert OWNER.decode_reply(OWNER.encode(reply)) == reply


@given(values(SessionEnded))
def test_a_notice_is_read_as_it_was_sent(notice: SessionEnded) -> None:
    assert decode_notice(encode_notice(notice)) == notice


@settings(max_examples=400)
@given(values(OwnerRequest) | values(OWNER.replies) | values(SessionEnded), st.data())
def test_damage_is_corrupt_data_and_nothing_worse(message: typing.Any, data: st.DataObject) -> None:
    whole = bytearray(msgspec.msgpack.encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for decode in (OWNER.decode_request, OWNER.decode_reply, decode_notice):
        try:
            decode(cut)
        except CorruptData:
            continue


@pytest.mark.parametrize(
    "data",
    [b"", b"\xd1", b"\x81" * 4000, b"\x91" * 4000, b"\x82\xa4type\xadfind-consumer\xabconsumer_id\xa1\xff"],
    ids=["nothing", "a delivery's magic", "nested maps", "nested lists", "a number that is no text"],
)
def test_what_is_no_message_is_corrupt_data(data: bytes) -> None:
    for decode in (OWNER.decode_request, OWNER.decode_reply, decode_notice):
        with pytest.raises(CorruptData):
            decode(data)


def test_text_that_is_not_utf8_is_corrupt_data() -> None:
    broken = b"\x82\xa4type\xb2list-subscriptions\xa5topic\xa2\xff\xfe"
    with pytest.raises(CorruptData):
        OWNER.decode_request(broken)


@pytest.mark.parametrize(
    ("error", "arrives_as"),
    [
        (NotFound("no such topic"), NotFound),
        (AlreadyExists("taken"), AlreadyExists),
        (Refused("exclusive"), Refused),
        (InvalidName("bad"), InvalidInput),
        (SchemaViolation("bad"), InvalidInput),
        (CorruptData("bad"), InvalidInput),
        (RequestTimeout("late"), Unavailable),
        (LogFull("full"), Unavailable),
        (MetadataUnavailable("away"), Unavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DanubeError) else "",
)
def test_an_error_travels_as_what_its_caller_can_handle(
    error: DanubeError, arrives_as: type[DanubeError]
) -> None:
    refusal = OWNER.decode_reply(OWNER.encode(error_reply(error)))
    arrived = error_of(refusal)  # type: ignore[arg-type]
    assert type(arrived) is arrives_as
    assert str(arrived) == str(error)


def test_a_limit_keeps_its_name() -> None:
    arrived = error_of(error_reply(LimitExceeded("max_producers_per_topic", "2 are enough")))
    assert isinstance(arrived, LimitExceeded)
    assert (arrived.limit, str(arrived)) == ("max_producers_per_topic", "2 are enough")


@given(st.lists(st.integers(0, 40) | st.integers(0, (1 << 64) - 1), max_size=60))
def test_acknowledged_ranges_hold_the_positions_and_are_apart(positions: list[int]) -> None:
    ranges = ack_ranges(positions)
    spans = TopicAcks("/default/t", "s", ranges).spans()
    held = [position for first, last in spans for position in range(first, last + 1)]
    assert held == sorted(set(positions))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(spans))


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=12))
def test_spans_become_the_ranges_of_their_positions(spans: list[tuple[int, int]]) -> None:
    spans = [(first, first + more) for first, more in spans]
    positions = [each for first, last in spans for each in range(first, last + 1)]
    assert span_ranges(spans) == ack_ranges(positions)


@pytest.mark.parametrize(
    "ranges",
    [[1], [1, 0], [1, -1], [1, 1 << 40], [1, ACKED_POSITIONS_MAX, 1 << 30, 1]],
    ids=["half a range", "empty", "negative", "without end", "too many"],
)
def test_what_is_no_acknowledged_range_is_corrupt_data(ranges: list[int]) -> None:
    with pytest.raises(CorruptData):
        TopicAcks("/default/t", "s", ranges).spans()


def test_a_sync_and_a_consumer_of_an_earlier_version_are_read() -> None:
    sync = {"type": "sync", "gateway": "g", "sessions": []}
    assert OWNER.decode_request(msgspec.msgpack.encode(sync)) == Sync("g", [], newest=0)
    names = {"consumer_id": 1, "consumer_name": "c", "topic": "t", "subscription": "s"}
    found = {"type": "consumer", **names, "reliable": True, "attached": True}
    consumer = ConsumerFound(1, "c", "t", "s", reliable=True, attached=True, session=0)
    assert OWNER.decode_reply(msgspec.msgpack.encode(found)) == consumer
