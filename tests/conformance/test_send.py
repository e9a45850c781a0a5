"""SendMessage: sequence ids, schemas and sizes (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance.client import (
    BYTES,
    INT64,
    JSON,
    SERVICE_NOT_READY,
    STRING,
    Client,
    Producer,
    strategy,
)
from tests.conformance.stubs import danube
from tests.conformance.tables import MAX_MESSAGE_BYTES

PERSON = b'{"type":"object","required":["name"],"properties":{"age":{"type":"integer"}}}'


async def typed_producer(client: Client, topic: str, kind: int, definition: bytes = b"") -> Producer:
    schema = danube.Schema(name="typed", type_schema=kind, schema_data=definition)
    return await client.producer(topic, schema=schema, dispatch_strategy=strategy(reliable=True))


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("number", [0, 1, (1 << 64) - 1])
async def test_the_answer_gives_back_the_clients_own_numbers(
    client: Client, topic: str, reliable: bool, number: int
) -> None:
    producer = await client.producer(topic, dispatch_strategy=strategy(reliable=reliable))
    message = producer.message("x")
    message.request_id = message.msg_id.sequence_id = number
    answer = await client.call("SendMessage", message)
    assert (answer.request_id, answer.sequence_id) == (number, number)


@pytest.mark.parametrize("unknown", [0, 1, 12345678901234567, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_an_unknown_producer_is_not_found(client: Client, topic: str, unknown: int) -> None:
    producer = await client.producer(topic)
    message = producer.message("x")
    message.msg_id.producer_id = unknown
    refusal = await client.refused("SendMessage", message)
    assert refusal.code == "NOT_FOUND"
    assert refusal.error_type != SERVICE_NOT_READY


async def test_a_message_without_msg_id_is_refused(client: Client) -> None:
    refusal = await client.refused("SendMessage", danube.StreamMessage(request_id=1, payload=b"x"))
    assert refusal.code == "INVALID_ARGUMENT"
    assert "msg_id" in refusal.message


@pytest.mark.parametrize(
    ("kind", "definition", "good", "bad"),
    [
        (STRING, b"", ["text", "", "ünï😀"], [b"\xff", b"half\xc3"]),
        (
            INT64,
            b"",
            [bytes(8), b"\xff" * 8, "0", "-1", "9223372036854775807", "-9223372036854775808"],
            [b"", b"1.5", b"twelve", b"\x00\x01", bytes(9), b"9223372036854775808", b"1_000", b"0x10"],
        ),
        (JSON, b"", ['{"any": [1, null]}', "7", '"text"'], [b"", b"{", b"{'a': 1}", b"nothing", b"\xff"]),
        (
            JSON,
            PERSON,
            ['{"name": "Ada", "age": 36}', '{"name": null}'],
            [b"{", b"[]", b"{}", b'{"name": "Ada", "age": "old"}'],
        ),
        (BYTES, b"", [b"", b"\xff\x00", b"{"], []),
    ],
    ids=["string", "int64", "json", "json schema", "bytes"],
)
async def test_a_payload_that_breaks_the_schema_is_refused_with_a_reason_and_not_stored(
    client: Client, topic: str, kind: int, definition: bytes, good: list[str | bytes], bad: list[bytes]
) -> None:
    producer = await typed_producer(client, topic, kind, definition)
    expected = []
    for payload in good:
        expected.append((await producer.send(payload)).payload)
        for wrong in bad:
            refusal = await producer.refused(wrong)
            assert refusal.code == "INVALID_ARGUMENT", wrong
            assert refusal.error_type != SERVICE_NOT_READY
            assert len(refusal.message) > len("INVALID_ARGUMENT"), "no reason given"
    consumer = await client.consume(topic, "from the start")
    assert [message.payload for message in await consumer.take(len(expected))] == expected
    assert await consumer.silent_for(0.2)


async def test_the_reason_for_a_broken_json_schema_names_the_place(client: Client, topic: str) -> None:
    producer = await typed_producer(client, topic, JSON, PERSON)
    refusal = await producer.refused(b'{"name": "Ada", "age": "old"}')
    assert "age" in refusal.message
    refusal = await producer.refused(b"{}")
    assert "name" in refusal.message


@pytest.mark.parametrize("reliable", [False, True])
async def test_the_largest_message_passes_end_to_end(client: Client, topic: str, reliable: bool) -> None:
    schema = danube.Schema(name="bytes", type_schema=BYTES)
    producer = await client.producer(topic, schema=schema, dispatch_strategy=strategy(reliable=reliable))
    consumer = await client.consume(topic, "subscription")
    payload = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
    sent = await producer.send(payload, attributes={"size": "10 MiB"})
    received = await consumer.next()
    assert received.payload == sent.payload
    assert received.attributes == sent.attributes


@pytest.mark.parametrize("reliable", [False, True])
async def test_one_byte_more_is_refused_and_the_limit_named(
    client: Client, topic: str, reliable: bool
) -> None:
    schema = danube.Schema(name="bytes", type_schema=BYTES)
    producer = await client.producer(topic, schema=schema, dispatch_strategy=strategy(reliable=reliable))
    consumer = await client.consume(topic, "subscription")
    refusal = await producer.refused(bytes(MAX_MESSAGE_BYTES + 1))
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert refusal.error_type != SERVICE_NOT_READY
    assert "max_message_size" in refusal.message
    assert str(MAX_MESSAGE_BYTES) in refusal.message
    await producer.send(b"small")
    assert (await consumer.next()).payload == b"small"


async def test_success_without_any_subscription(client: Client, topic: str) -> None:
    producer = await client.producer(topic)
    for _ in range(50):
        await producer.send("dropped")


async def test_a_message_arrives_as_it_was_sent(client: Client, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    extras: dict[str, Any] = {"attributes": {"": "empty key", "k": "", "ключ": "значение"}}
    sent = await producer.send(b"\x00\xff payload", **extras)
    received = await (await client.consume(topic, "subscription")).next()
    assert received.msg_id == sent.msg_id
    assert received.payload == sent.payload
    assert received.publish_time == sent.publish_time
    assert received.producer_name == sent.producer_name
    assert received.attributes == sent.attributes
