from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.model.schema import (
    SCHEMA_BYTES_MAX,
    SCHEMA_NAME_LENGTH_MAX,
    Schema,
    SchemaKind,
    check_schema,
    payload_check,
)

PERSON = json.dumps(
    {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
WORDS = st.sampled_from(
    ["type", "properties", "items", "pattern", "$ref", "enum", "minimum", "allOf", "not", "format", "x"]
)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.sampled_from(["object", "string", "(", "[a-z", "#/x", "http://x/y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def accepts(schema: Schema, payload: bytes) -> bool:
    try:
        payload_check(schema)(payload)
    except SchemaViolation:
        return False
    return True


def json_schema(definition: str) -> Schema:
    return Schema("s", SchemaKind.JSON, definition)


@pytest.mark.parametrize(
    ("kind", "payload", "fits"),
    [
        (SchemaKind.BYTES, b"\xff\x00", True),
        (SchemaKind.STRING, "schön".encode(), True),
        (SchemaKind.STRING, b"", True),
        (SchemaKind.STRING, b"\xff", False),
        (SchemaKind.INT64, b"12345678", True),
        (SchemaKind.INT64, bytes(8), True),
        (SchemaKind.INT64, b"-42", True),
        (SchemaKind.INT64, b"9223372036854775807", True),
        (SchemaKind.INT64, b"-9223372036854775808", True),
        (SchemaKind.INT64, b"9223372036854775808", False),
        (SchemaKind.INT64, b"1_0", False),
        (SchemaKind.INT64, b"1.5", False),
        (SchemaKind.INT64, b"", False),
        (SchemaKind.INT64, "٣".encode(), False),
        (SchemaKind.INT64, b"1" * 5000, False),
        (SchemaKind.JSON, b'{"any": [1, 2]}', True),
        (SchemaKind.JSON, b"", False),
        (SchemaKind.JSON, b"{", False),
        (SchemaKind.JSON, b"NaN", False),
    ],
)
def test_a_payload_fits_its_kind_or_is_refused(kind: SchemaKind, payload: bytes, *, fits: bool) -> None:
    assert accepts(Schema("s", kind), payload) is fits


@pytest.mark.parametrize(
    ("payload", "fits"),
    [(b'{"age": 3}', True), (b'{"age": -1}', False), (b'{"age": "3"}', False), (b"{}", False), (b"3", False)],
)
def test_a_json_payload_fits_its_schema_or_is_refused(payload: bytes, *, fits: bool) -> None:
    assert accepts(json_schema(PERSON), payload) is fits


@pytest.mark.parametrize("definition", ["", "  \n", "{}", "true"])
def test_an_empty_json_schema_accepts_all_json_and_only_json(definition: str) -> None:
    schema = json_schema(definition)
    check_schema(schema)
    assert accepts(schema, b"[1]")
    assert not accepts(schema, b"[1")


@pytest.mark.parametrize(
    "definition",
    [
        "{",
        "1",
        "1.0",
        "null",
        '"object"',
        "[]",
        '{"type": "no such"}',
        '{"$ref": "http://127.0.0.1:9/s"}',
        '{"pattern": "("}',
        '{"$ref": "#/missing"}',
    ],
)
def test_a_definition_that_is_no_schema_is_refused_when_the_topic_is_made(definition: str) -> None:
    with pytest.raises(InvalidInput):
        check_schema(json_schema(definition))


def test_a_schema_that_accepts_nothing_is_a_schema() -> None:
    assert not accepts(json_schema("false"), b"1")


def test_names_and_definitions_are_bounded() -> None:
    check_schema(Schema("n" * SCHEMA_NAME_LENGTH_MAX, SchemaKind.BYTES, "d" * SCHEMA_BYTES_MAX))
    for schema in (
        Schema("n" * (SCHEMA_NAME_LENGTH_MAX + 1), SchemaKind.BYTES),
        Schema("n", SchemaKind.BYTES, "d" * (SCHEMA_BYTES_MAX + 1)),
    ):
        with pytest.raises(InvalidInput):
            check_schema(schema)


@settings(max_examples=200)
@given(DOCUMENTS, st.binary(max_size=10) | DOCUMENTS.map(lambda one: json.dumps(one).encode()))
def test_no_definition_and_no_payload_does_worse_than_be_refused(document: Any, payload: bytes) -> None:
    schema = json_schema(json.dumps(document))
    try:
        check_schema(schema)
    except InvalidInput:
        return
    accepts(schema, payload)


@pytest.mark.parametrize("definition", ["{}", PERSON, '{"$ref": "#"}', '{"items": {"$ref": "#"}}'])
@pytest.mark.parametrize(
    "payload",
    [b"[" * 400 + b"]" * 400, b"[" * 5000 + b"]" * 5000, b'{"age":' * 300 + b"1" + b"}" * 300, b"1" * 400],
    ids=["deep", "deeper", "deep objects", "a large number"],
)
def test_a_monstrous_payload_is_accepted_or_refused(definition: str, payload: bytes) -> None:
    try:
        check = payload_check(json_schema(definition))
    except InvalidInput:
        return
    try:
        check(payload)
    except SchemaViolation:
        return


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (json_schema('{"type": "object", "a": 1}'), json_schema(' {"a":1, "type":"object"} '), True),
        (json_schema(""), json_schema("{}"), True),
        (json_schema(PERSON), json_schema("{}"), False),
        (Schema("a", SchemaKind.STRING), Schema("b", SchemaKind.STRING, "ignored"), True),
        (Schema("a", SchemaKind.STRING), Schema("a", SchemaKind.BYTES), False),
    ],
)
def test_schemas_are_one_contract_when_they_demand_the_same(
    one: Schema, other: Schema, *, same: bool
) -> None:
    assert (one.differs_from(other) is None) is same
    assert (other.differs_from(one) is None) is same
