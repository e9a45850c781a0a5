from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.model.run import Run
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.dialects.current.model import stored_message, stream_messages, tag_of
from danube_gateway.dialects.v0_2.sent_message import read_sent_message
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as api

PREFIX_BYTES = 5
ids = st.integers(1, (1 << 63) - 1)
texts = st.text(max_size=30)
bodies = st.fixed_dictionaries(
    {
        "request_id": st.integers(0, (1 << 64) - 1),
        "payload": st.binary(max_size=200),
        "publish_time": st.integers(0, (1 << 64) - 1),
        "producer_name": texts,
        "attributes": st.dictionaries(texts, texts, max_size=4),
    },
    optional={
        "schema_id": st.integers(0, (1 << 64) - 1),
        "schema_version": st.integers(0, (1 << 32) - 1),
        "routing_key": texts,
    },
)


def received(data: bytes) -> api.StreamMessage:
    message = api.StreamMessage.FromString(data[PREFIX_BYTES:])
    assert int.from_bytes(data[1:PREFIX_BYTES], "big") == len(data) - PREFIX_BYTES
    assert len(UnknownFieldSet(message)) == len(UnknownFieldSet(message.msg_id)) == 0
    return message


@given(bodies, ids, st.integers(0, (1 << 63) - 1), ids, st.integers(0, 10**15 - 1), texts)
def test_a_message_that_is_stored_and_delivered_is_the_one_that_was_sent(
    body: dict[str, Any], producer: int, position: int, offset: int, generation: int, subscription: str
) -> None:
    msg_id = api.MsgID(producer_id=producer, topic_name="/default/t", broker_addr="http://x:1")
    sent = api.StreamMessage(msg_id=msg_id, **body)
    stored = stored_message(api.StreamMessage.FromString(sent.SerializeToString()))
    delivered = Delivered("/default/t", subscription, generation)
    message = received(stream_messages([Run.of(position, [stored], offset)], delivered))
    assert message.msg_id.producer_id == producer
    assert message.msg_id.topic_offset == offset
    assert tag_of(message.msg_id, subscription) == (delivered, position)
    sent.subscription_name = subscription
    sent.ClearField("msg_id")
    message.ClearField("msg_id")
    assert message == sent


@given(bodies, ids)
def test_what_is_stored_is_a_v0_2_message(body: dict[str, Any], producer: int) -> None:
    msg_id = api.MsgID(producer_id=producer, topic_name="/default/t", broker_addr="http://x:1")
    stored = stored_message(api.StreamMessage(msg_id=msg_id, **body))
    assert read_sent_message(stored) == (body["request_id"], producer, body["request_id"], body["payload"])


@given(bodies, ids, st.integers(0, 1 << 20), st.binary(max_size=20))
def test_what_a_v0_2_client_sent_is_delivered_without_fields_that_are_not_known(
    body: dict[str, Any], producer: int, sequence: int, extra: bytes
) -> None:
    msg_id = v0_2.MsgID(sequence_id=sequence, producer_id=producer, topic_name="/default/t", broker_addr="x")
    sent = v0_2.StreamMessage(msg_id=msg_id, **body).SerializeToString()
    unknown = b"\xaa\x06" + bytes((len(extra),)) + extra
    message = received(stream_messages([Run.of(5, [sent + unknown])], Delivered("/default/t", "s", 0)))
    assert (message.payload, message.msg_id.producer_id) == (body["payload"], producer)


@pytest.mark.parametrize("addr", ["", "http://x:1", "#1", "#1.", "#.1", "#1.2 ", "#1.2.3", "#\u0661.1"])
def test_a_tag_of_no_delivery_is_refused(addr: str) -> None:
    with pytest.raises(InvalidInput, match="unchanged"):
        tag_of(api.MsgID(topic_name="/default/t", broker_addr=addr), "s")
