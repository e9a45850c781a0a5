from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_gateway.dialects.generations import (
    BROKER_URL_HEADER,
    RECREATE_HEADER,
    Generation,
    fields,
    inline_schema,
    of_caller,
    of_consumer,
    of_message,
    of_producer,
)
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as current

OLD, NEW = Generation.V0_2, Generation.CURRENT
HEADER = {BROKER_URL_HEADER: "http://gateway:6650/"}
numbers = st.integers(0, (1 << 64) - 1)
texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=40)


@given(numbers, numbers, numbers, names, texts, st.binary(max_size=200), st.dictionaries(texts, texts))
def test_every_message_of_a_v0_2_client_goes_to_v0_2(
    request: int, sequence: int, producer: int, topic: str, addr: str, payload: bytes, attributes: Any
) -> None:
    msg_id = v0_2.MsgID(sequence_id=sequence, producer_id=producer or 1, topic_name=topic, broker_addr=addr)
    message = v0_2.StreamMessage(
        request_id=request, msg_id=msg_id, payload=payload, attributes=attributes
    ).SerializeToString()
    ack = v0_2.AckRequest(request_id=request, msg_id=msg_id, subscription_name=topic).SerializeToString()
    for metadata in ({}, HEADER):
        assert of_message(message, metadata) is OLD
        assert of_message(ack, metadata) is OLD


@given(numbers, numbers, names, texts, numbers, st.binary(max_size=200))
def test_every_message_of_a_current_client_goes_to_the_current_generation(
    request: int, producer: int, topic: str, addr: str, offset: int, payload: bytes
) -> None:
    msg_id = current.MsgID(producer_id=producer, topic_name=topic, broker_addr=addr, topic_offset=offset)
    message = current.StreamMessage(request_id=request, msg_id=msg_id, payload=payload)
    ack = current.AckRequest(request_id=request, msg_id=msg_id, subscription_name=topic)
    for data in (message.SerializeToString(), ack.SerializeToString()):
        assert of_message(data, {}) is NEW


@given(numbers, names, names, st.integers(0, 3), texts, st.binary(max_size=80), st.booleans())
def test_every_producer_of_a_v0_2_client_goes_to_v0_2(
    request: int, name: str, topic: str, kind: int, schema: str, definition: bytes, reliable: bool
) -> None:
    options = v0_2.ReliableOptions(segment_size=20) if reliable else None
    data = v0_2.ProducerRequest(
        request_id=request,
        producer_name=name,
        topic_name=topic,
        schema=v0_2.Schema(name=schema, schema_data=definition, type_schema=kind),  # type: ignore[arg-type]
        dispatch_strategy=v0_2.TopicDispatchStrategy(strategy=int(reliable), reliable_options=options),  # type: ignore[arg-type]
    ).SerializeToString()
    assert of_producer(data, {}) is OLD


references = st.one_of(
    st.none(),
    st.builds(current.SchemaReference, subject=names, use_latest=st.booleans()),
    st.builds(current.SchemaReference, subject=names, pinned_version=st.integers(0, (1 << 32) - 1)),
    st.builds(current.SchemaReference, subject=names, min_version=st.integers(0, (1 << 32) - 1)),
)


@given(numbers, names, names, references, st.booleans(), st.booleans())
def test_every_producer_of_a_current_client_goes_to_the_current_generation(
    request: int, name: str, topic: str, reference: Any, reliable: bool, header: bool
) -> None:
    data = current.ProducerRequest(
        request_id=request,
        producer_name=name,
        topic_name=topic,
        schema_ref=reference,
        dispatch_strategy=int(reliable),  # type: ignore[arg-type]
    ).SerializeToString()
    undecidable = not reliable and not header and reference is not None
    if undecidable and reference.WhichOneof("version_ref") == "min_version":
        assert of_producer(data, {}) is OLD  # the bytes of a schema with a type, and no strategy
    else:
        assert of_producer(data, HEADER if header else {}) is NEW
    assert not inline_schema(data)


def test_a_request_of_this_platforms_client_is_v0_2_though_it_names_no_strategy() -> None:
    data = v0_2.ProducerRequest(producer_name="p", topic_name="/default/t").SerializeToString()
    assert of_producer(data, {RECREATE_HEADER: "false"}) is OLD
    assert of_producer(data, {}) is NEW


def test_a_schema_with_a_definition_beside_the_current_strategy_is_seen() -> None:
    schema = v0_2.ProducerRequest(
        schema=v0_2.Schema(name="s", schema_data=b"{}", type_schema=v0_2.Schema.JSON)
    )
    strategy = current.ProducerRequest(dispatch_strategy=current.Reliable)
    data = schema.SerializeToString() + strategy.SerializeToString()
    assert of_producer(data, {}) is NEW
    assert inline_schema(data)


@given(numbers, names, names, names, st.integers(0, 2))
def test_a_subscribe_is_decided_by_metadata_unless_it_is_key_shared(
    request: int, topic: str, consumer: str, subscription: str, kind: int
) -> None:
    plain = current.ConsumerRequest(
        request_id=request,
        topic_name=topic,
        consumer_name=consumer,
        subscription=subscription,
        subscription_type=kind,  # type: ignore[arg-type]
    )
    assert of_consumer(plain.SerializeToString(), {}) is OLD
    assert of_consumer(plain.SerializeToString(), HEADER) is NEW
    plain.key_filters.append("a*")
    assert of_consumer(plain.SerializeToString(), {}) is NEW
    del plain.key_filters[:]
    plain.subscription_type = current.ConsumerRequest.KeyShared
    assert of_consumer(plain.SerializeToString(), {}) is NEW


@pytest.mark.parametrize(
    ("agent", "generation"),
    [
        ("", OLD),
        ("tonic/0.11.0", OLD),
        ("tonic/0.12.3", OLD),
        ("tonic/0.14.2", NEW),
        ("tonic/1.0.0", NEW),
        ("grpc-go/1.65.0", OLD),
        ("grpc-go/1.69.2", OLD),
        ("grpc-go/1.79.1", NEW),
        ("grpc-java-netty/1.70.0", NEW),
        ("grpc-python-asyncio/1.76.0 grpc-c/51.0.0 (linux; chttp2)", OLD),
        ("tonic/" + "9" * 40, OLD),
    ],
)
def test_libraries_that_only_current_clients_are_built_with_are_known(
    agent: str, generation: Generation
) -> None:
    assert of_caller({"user-agent": agent}) is generation
    assert of_caller({"user-agent": agent, **HEADER}) is NEW


inner_fields = st.lists(
    st.sampled_from(
        [b"\x08\x07", b"\x10\x12", b"\x12\x01\x10", b"\x1a\x00", b"\x20\x01", b"\x22\x02\x10\x12"]
    ),
    max_size=4,
).map(b"".join)


@given(inner_fields, inner_fields, st.booleans())
def test_how_a_message_begins_does_not_change_what_it_is(first: bytes, second: bytes, swap: bool) -> None:
    def field(value: bytes) -> bytes:
        return b"\x12" + bytes((len(value),)) + value

    data = (b"\x08\x05" + field(first), field(second))
    whole = b"".join(reversed(data) if swap else data)
    # Behind a field that every contract has last, the loop decides.
    assert of_message(whole, {}) is of_message(b"\x20\x01" + whole, {})


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    for decide in (of_message, of_producer, of_consumer):
        decide(data, {})


@given(st.lists(st.tuples(st.integers(1, 2000), st.binary(max_size=300)), max_size=20))
def test_fields_are_found_where_they_lie(parts: list[tuple[int, bytes]]) -> None:
    from danube_common.wire.protobuf_fields import varint  # noqa: PLC0415

    data = b"".join(varint(number << 3 | 2) + varint(len(value)) + value for number, value in parts)
    found = [(number, data[start:end]) for number, _, start, end in fields(data, 0, len(data))]
    assert found == parts
