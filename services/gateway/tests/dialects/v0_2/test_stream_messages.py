from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.position import MESSAGES_PER_SECTION_MAX, position_of
from danube_common.model.run import Run
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.dialects.v0_2.model import delivery_fields, generation_of
from danube_gateway.dialects.v0_2.stream_messages import stream_messages
from danube_proto import danube_api_pb2 as api

U64 = st.integers(0, (1 << 64) - 1)
TEXTS = st.text(max_size=12)
MESSAGES = st.builds(
    api.StreamMessage,
    request_id=U64,
    msg_id=st.none() | st.builds(api.MsgID, producer_id=U64, topic_name=TEXTS, sequence_id=U64),
    payload=st.binary(max_size=30),
    publish_time=U64,
    producer_name=TEXTS,
    subscription_name=TEXTS,
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=3),
)
FIRSTS = st.builds(
    position_of, st.integers(1, 1 << 36), st.integers(0, 4095), st.integers(0, MESSAGES_PER_SECTION_MAX - 6)
)


def messages_in(data: bytes) -> list[api.StreamMessage]:
    """Read messages with their prefixes."""
    found = []
    while data:
        compressed, length = struct.unpack(">BI", data[:5])
        assert not compressed
        assert len(data) >= 5 + length
        message = api.StreamMessage()
        message.ParseFromString(data[5 : 5 + length])
        assert parse_strict(api.StreamMessage, data[5 : 5 + length]) == message
        found.append(message)
        data = data[5 + length :]
    return found


@given(
    st.lists(st.tuples(st.just(0) | FIRSTS, st.lists(MESSAGES, min_size=1, max_size=6)), max_size=3),
    TEXTS,
    st.integers(0, 10**14),
    st.integers(0, 2),
)
def test_a_consumer_reads_what_was_produced_with_the_tag_that_it_echoes(
    produced: list[tuple[int, list[api.StreamMessage]]], subscription: str, generation: int, skipped: int
) -> None:
    """All other fields stay as produced, also without a ``msg_id``; a run may begin within its section."""
    runs = []
    expected = []
    for first, messages in produced:
        run = Run.of(first, [message.SerializeToString() for message in messages])
        skip = min(skipped, len(run))
        runs.append(run.tail(skip))
        for index, message in list(enumerate(messages))[skip:]:
            one = api.StreamMessage()
            one.CopyFrom(message)
            one.request_id = first + index if first else message.request_id
            one.subscription_name = subscription
            one.msg_id.topic_name = "/default/t"
            if generation:
                one.msg_id.broker_addr = f"#{generation}"
            expected.append(one)
    read = messages_in(stream_messages(runs, delivery_fields("/default/t", subscription, generation)))
    assert read == expected
    assert all(generation_of(message.msg_id) == generation for message in read)
