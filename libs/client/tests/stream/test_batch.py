from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_client.stream.batch import BadBatch, Entry, MessageEncoder, pack, unpack
from danube_proto import danube_api_pb2 as wire

TEXT = st.text(max_size=20)
MESSAGES = st.lists(
    st.tuples(
        st.binary(max_size=300),
        st.integers(0, 1 << 50),
        st.none() | TEXT,
        st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    min_size=1,
    max_size=20,
)


@given(TEXT, MESSAGES)
def test_a_batch_holds_the_messages_as_protobuf_writes_them(
    name: str, messages: list[tuple[bytes, int, str | None, dict[str, str]]]
) -> None:
    encoder = MessageEncoder(name)
    entries: list[Entry] = [
        encoder.encode(payload, now_ms, key, attributes, None)
        for payload, now_ms, key, attributes in messages
    ]
    batch = pack(entries)
    assert batch.messages == len(messages)
    assert batch.body_bytes == len(batch.body)
    assert [wire.StreamMessage.FromString(data) for data in unpack(batch)] == [
        wire.StreamMessage(
            payload=payload,
            publish_time=now_ms,
            producer_name=name,
            routing_key=key,
            attributes=attributes,
        )
        for payload, now_ms, key, attributes in messages
    ]
    assert [entry[3] for entry in entries] == [len(data) for data in unpack(batch)]


@given(st.data())
def test_a_damaged_batch_is_refused(data: st.DataObject) -> None:
    encoder = MessageEncoder("p")
    batch = pack([encoder.encode(b"payload", 5, None, None, None) for _ in range(3)])
    body = bytearray(batch.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    batch.body = bytes(body)
    with pytest.raises(BadBatch):
        unpack(batch)
