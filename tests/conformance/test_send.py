"""SendMessage: sequence ids, schemas and sizes (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import asyncio
import json
from random import Random
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
    Refusal,
    producer_request,
    strategy,
)
from tests.conformance.stubs import danube
from tests.conformance.tables import MAX_MESSAGE_BYTES

from danube_harness.traffic.int64_payloads import INT64_PAYLOADS, NOT_INT64_PAYLOADS

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
            [*INT64_PAYLOADS],
            [*NOT_INT64_PAYLOADS],
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


async def test_a_string_schema_that_nobody_chose_takes_any_bytes(client: Client, topic: str) -> None:
    """Official clients send it under this name when their user chose no schema."""
    chosen_by_nobody = danube.Schema(name="string_schema", type_schema=STRING)
    producer = await client.producer(
        topic, schema=chosen_by_nobody, dispatch_strategy=strategy(reliable=True)
    )
    sent = await producer.send(b"\xff\x00\xfe")
    assert (await (await client.consume(topic, "subscription")).next()).payload == sent.payload


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        (b"[" * 128 + b"]" * 128, True),
        (b"[" * 129 + b"]" * 129, False),
        (b'{"a":' * 255 + b"1" + b"}" * 255, False),
        (b"18446744073709551616", True),
        (b"18446744073709551617", False),
    ],
)
async def test_json_is_bounded_in_depth_and_exact_in_integers(
    client: Client, topic: str, payload: bytes, *, fits: bool
) -> None:
    producer = await typed_producer(client, topic, JSON, b'{"maximum": 18446744073709551616}')
    if fits:
        await producer.send(payload)
    else:
        assert (await producer.refused(payload)).code == "INVALID_ARGUMENT"


async def test_one_message_that_is_hard_to_check_delays_no_other_topic(client: Client, topic: str) -> None:
    alternatives: list[Any] = [{"type": "number"}]
    for name in ("add", "sub", "mul", "div", "pow", "mod"):
        arguments = {"op": {"const": name}, "args": {"items": {"$ref": "#"}}}
        alternatives.append({"type": "object", "properties": arguments, "required": ["op"]})
    producer = await typed_producer(client, topic, JSON, json.dumps({"anyOf": alternatives}).encode())
    other = await typed_producer(client, f"{topic}-other", JSON, PERSON)
    hard = '{"op":"mod","args":[1,' * 30 + '"x"' + "]}" * 30
    began = asyncio.get_running_loop().time()
    refusing = asyncio.create_task(producer.refused(hard.encode()))
    while not refusing.done():
        await other.send('{"name": "Ada"}')
    refusal = await refusing
    assert refusal.code in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    assert asyncio.get_running_loop().time() - began < 30


@pytest.mark.parametrize(
    ("definition", "same"),
    [(b' { "const" : 1.0 } ', True), (b'{"const": true}', False), (b'{"const":', False)],
)
async def test_definitions_are_compared_as_json(
    client: Client, topic: str, definition: bytes, *, same: bool
) -> None:
    await typed_producer(client, topic, JSON, b'{"const": 1}')
    request = producer_request(
        topic, "another", schema=danube.Schema(name="typed", type_schema=JSON, schema_data=definition)
    )
    request.ClearField("dispatch_strategy")
    if same:
        await client.call("CreateProducer", request)
    else:
        assert (await client.refused("CreateProducer", request)).code == "INVALID_ARGUMENT"


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
    sent = await producer.send(payload, attributes={"size": "4 MB"})
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


@pytest.mark.parametrize("reliable", [False, True])
async def test_whatever_is_accepted_by_default_reaches_a_client_that_decodes_4_mib(
    client: Client, topic: str, reliable: bool
) -> None:
    schema = danube.Schema(name="bytes", type_schema=BYTES)
    producer = await client.producer(topic, schema=schema, dispatch_strategy=strategy(reliable=reliable))
    official = Client(client.addr, receive_bytes_max=4 * 1024 * 1024)
    try:
        subscription = "\N{GRINNING FACE}" * 255
        consumer = await official.consume(topic, subscription, "\N{GRINNING FACE}" * 255)
        random = Random(9)
        sizes = [(0, 0), (MAX_MESSAGE_BYTES, 0), (MAX_MESSAGE_BYTES + 1, 0), (MAX_MESSAGE_BYTES, 65_000)]
        sizes += [(MAX_MESSAGE_BYTES, 70_000), (4 * 1024 * 1024, 0), (4_300_000, 0), (0, 65_000), (0, 70_000)]
        for _ in range(12):
            sizes.append((MAX_MESSAGE_BYTES - random.randint(-3, 3), random.randint(64_900, 65_600)))
        accepted, refused = 0, []
        for payload_bytes, attribute_bytes in sizes:
            attributes = {f"{number}": "x" * 1000 for number in range(attribute_bytes // 1010)}
            attributes["rest"] = "x" * (attribute_bytes % 1010)
            message = producer.message(bytes(payload_bytes), attributes=attributes)
            message.request_id = 1  # a delivery's is longer
            try:
                await client.call("SendMessage", message)
            except Refusal as refusal:
                refused.append((payload_bytes, attribute_bytes, refusal))
                continue
            accepted += 1
            received = await consumer.next()
            assert (len(received.payload), received.attributes) == (payload_bytes, attributes)
            await official.ack(received, subscription)
        assert accepted > 4
        assert refused
        for payload_bytes, attribute_bytes, told in refused:
            assert told.code == "RESOURCE_EXHAUSTED"
            assert payload_bytes > MAX_MESSAGE_BYTES or attribute_bytes > 64_000
            assert "max_message_size" in told.message or "names and attributes" in told.message
    finally:
        await official.close()


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
