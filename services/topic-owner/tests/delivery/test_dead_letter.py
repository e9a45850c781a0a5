from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.wire.frame import decode_frame
from danube_proto import danube_api_pb2 as api
from danube_topic_owner.delivery.dead_letter import (
    Origin,
    attributes_of,
    dead_letter_frame,
    in_topic,
    with_attributes,
)
from danube_topic_owner.delivery.retries import FailedMessage, Stage

ORIGIN = Origin("/default/t", 7, "s", 0)
LATER_MSG_ID = b"\x12\x0d\x08\x4d\x12\x02/t\x1a\x05http:"
"""``msg_id`` of later generations: producer 77, topic /t, address http:."""


def failed(data: bytes, position: int = 9) -> FailedMessage:
    return FailedMessage(position, 3, Stage.DEAD, data, reason="")


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=200), max_size=4),
    st.dictionaries(st.text(max_size=5), st.text(max_size=200), max_size=4),
    st.binary(max_size=300),
)
def test_attributes_are_added_and_replace_those_of_their_name(
    before: dict[str, str], added: dict[str, str], payload: bytes
) -> None:
    message = api.StreamMessage(payload=payload, attributes=before)
    read = api.StreamMessage.FromString(with_attributes(message.SerializeToString(), added))
    assert (dict(read.attributes), read.payload) == (before | added, payload)


def test_the_producer_is_read_in_every_layout_of_msg_id() -> None:
    early = api.StreamMessage(msg_id=api.MsgID(sequence_id=1, producer_id=77, broker_addr="http:"))
    for data in (early.SerializeToString(), LATER_MSG_ID):
        attributes = attributes_of(ORIGIN, failed(data))
        told = (attributes["x-original-producer-id"], attributes["x-original-broker-addr"])
        assert told == ("77", "http:")
    assert attributes_of(ORIGIN, failed(b""))["x-failure-reason"] == "unknown"


def test_the_topic_is_named_in_the_layout_that_the_message_has() -> None:
    early = api.StreamMessage(msg_id=api.MsgID(sequence_id=1, producer_id=77, topic_name="/t"))
    assert api.StreamMessage.FromString(in_topic(early.SerializeToString(), "/d")).msg_id == api.MsgID(
        sequence_id=1, producer_id=77, topic_name="/d"
    )
    assert in_topic(LATER_MSG_ID, "/d") == LATER_MSG_ID + b"\x12\x04\x12\x02/d"


@given(st.binary(max_size=60))
def test_what_is_no_message_becomes_a_dead_letter_all_the_same(data: bytes) -> None:
    frame = dead_letter_frame("/d", 5, ORIGIN, failed(data))
    (section,) = decode_frame(frame.data).sections
    assert section.message(0).startswith(data)


def test_the_next_owner_makes_the_same_frame_and_other_messages_have_other_frames() -> None:
    frame = dead_letter_frame("/d", 5, ORIGIN, failed(b""))
    assert dead_letter_frame("/d", 5, ORIGIN, failed(b"")) == frame
    others = [
        dead_letter_frame("/d", 6, ORIGIN, failed(b"")),
        dead_letter_frame("/d", 5, ORIGIN, failed(b"", position=10)),
        dead_letter_frame("/d", 5, ORIGIN._replace(generation=1), failed(b"")),
        dead_letter_frame("/d", 5, ORIGIN._replace(subscription="t"), failed(b"")),
    ]
    assert len({each.frame_id for each in [frame, *others]}) == 5
