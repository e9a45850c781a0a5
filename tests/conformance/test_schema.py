"""GetSchema (docs/wire/v0_2.md, Calls)."""

from __future__ import annotations

import json

import pytest
from tests.conformance.client import (
    BYTES,
    INT64,
    JSON,
    STRING,
    TOPIC_NOT_FOUND,
    Client,
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


async def test_an_unknown_topic_fails_with_a_status(client: Client, topic: str) -> None:
    refusal = await client.refused("GetSchema", danube.SchemaRequest(topic=topic))
    assert refusal.code in {"NOT_FOUND", "INVALID_ARGUMENT"}
    assert refusal.error_type == TOPIC_NOT_FOUND
