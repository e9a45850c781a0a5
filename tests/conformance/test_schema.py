"""GetSchema (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conformance.client import (
    BYTES,
    INT64,
    JSON,
    STRING,
    TOPIC_NOT_FOUND,
    Client,
    producer_request,
)
from tests.conformance.stubs import danube

PERSON = (
    b'{\n  "$schema": "https://json-schema.org/draft/2020-12/schema",\n  "type": "object",\n'
    b'  "properties": {"n\xc3\xa4me": {"type": "string"}}\n}\n'
)


@pytest.mark.parametrize(
    ("kind", "data"), [(BYTES, b""), (STRING, b""), (INT64, b""), (JSON, b"{}"), (JSON, PERSON)]
)
async def test_a_schema_comes_back_as_it_was_given(
    client: Client, other_client: Client, topic: str, kind: int, data: bytes
) -> None:
    given = danube.Schema(name="my_app", type_schema=kind, schema_data=data)
    await client.producer(topic, schema=given)
    assert await other_client.schema(topic) == given


async def test_a_large_schema_comes_back_whole(client: Client, topic: str) -> None:
    properties = {f"property_{number}": {"type": "string"} for number in range(2000)}
    data = json.dumps({"type": "object", "properties": properties}).encode()
    given = danube.Schema(name="large", type_schema=JSON, schema_data=data)
    await client.producer(topic, schema=given)
    assert (await client.schema(topic)).schema_data == data


async def test_the_schema_of_a_partitioned_topic_is_that_of_its_first_partition(
    client: Client, topic: str
) -> None:
    for number in range(3):
        schema = danube.Schema(name=f"part {number}", type_schema=STRING)
        await client.producer(f"{topic}-part-{number}", schema=schema)
    assert (await client.schema(topic)).name == "part 0"
    assert (await client.schema(f"{topic}-part-2")).name == "part 2"


def closed(**properties: str) -> Any:
    """A JSON Schema of objects with these properties and no other."""
    definition = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "additionalProperties": False,
    }
    return danube.Schema(name="evolving", type_schema=JSON, schema_data=json.dumps(definition).encode())


@pytest.mark.parametrize("part", ["", "-part-0"])
async def test_a_json_schema_evolves_with_its_producers_as_long_as_it_is_compatible(
    client: Client, other_client: Client, topic: str, part: str
) -> None:
    name = topic + part
    first, second = closed(a="integer"), closed(a="integer", b="string")
    old = await client.producer(name, "old-0", schema=first)
    refusal = await old.refused('{"a": 1, "b": "not yet"}')
    assert refusal.code == "INVALID_ARGUMENT"
    new = await other_client.producer(name, "old-0 later", schema=second)
    await new.send('{"a": 1, "b": "x"}')
    await old.send('{"a": 2}')
    assert (await new.refused('{"a": "no integer"}')).code == "INVALID_ARGUMENT"
    assert await other_client.schema(topic) == second
    await client.producer(name, "of the first version", schema=first)
    assert await other_client.schema(topic) == second
    third = closed(a="integer", b="string", c="boolean")
    newest = await client.producer(name, "newest", schema=third)
    await newest.send('{"c": true}')
    request = producer_request(name, "without a", schema=closed(b="string", c="boolean"))
    refusal = await client.refused("CreateProducer", request)
    assert refusal.code == "INVALID_ARGUMENT"
    assert "cannot become this one" in refusal.message
    assert (await client.schema(topic)).schema_data == third.schema_data


async def test_an_unknown_topic_fails_with_a_status(client: Client, topic: str) -> None:
    refusal = await client.refused("GetSchema", danube.SchemaRequest(topic=topic))
    assert refusal.code in {"NOT_FOUND", "INVALID_ARGUMENT"}
    assert refusal.error_type == TOPIC_NOT_FOUND
