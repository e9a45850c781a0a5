from __future__ import annotations

import json
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.model.json_schema import CHEAP_COST_MAX
from danube_common.model.schema import (
    SCHEMA_BYTES_MAX,
    SCHEMA_NAME_LENGTH_MAX,
    Schema,
    SchemaKind,
    check_schema,
    payload_check,
)
from danube_harness.traffic.int64_payloads import INT64_PAYLOADS, NOT_INT64_PAYLOADS

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
        (SchemaKind.JSON, b'{"any": [1, 2]}', True),
        (SchemaKind.JSON, b"", False),
        (SchemaKind.JSON, b"{", False),
        (SchemaKind.JSON, b"NaN", False),
    ],
)
def test_a_payload_fits_its_kind_or_is_refused(kind: SchemaKind, payload: bytes, *, fits: bool) -> None:
    assert accepts(Schema("s", kind), payload) is fits


@pytest.mark.parametrize("payload", INT64_PAYLOADS)
def test_an_int64_is_decimal_text(payload: bytes) -> None:
    assert accepts(Schema("s", SchemaKind.INT64), payload)


@pytest.mark.parametrize("payload", NOT_INT64_PAYLOADS)
def test_nothing_else_is_an_int64(payload: bytes) -> None:
    assert not accepts(Schema("s", SchemaKind.INT64), payload)


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers())
def test_every_integer_of_64_bits_is_an_int64_and_no_other(number: int) -> None:
    assert accepts(Schema("s", SchemaKind.INT64), str(number).encode()) is (-(1 << 63) <= number < 1 << 63)


def test_the_string_schema_of_clients_that_chose_none_is_not_enforced() -> None:
    assert accepts(Schema("string_schema", SchemaKind.STRING), b"\xff\x00")
    assert not accepts(Schema("string_schema2", SchemaKind.STRING), b"\xff\x00")


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
        '{"$ref": "#"}',
        '{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#"}}}}',
        '{"$id": "http://x/y", "$defs": {"a": {"anyOf": [{"$ref": "y"}]}}, "$ref": "#/$defs/a"}',
        '{"$anchor": "me", "$ref": "#me"}',
        "{" + '"not": {' * 128 + "}" * 129,
        '{"const": ' + "9" * 1001 + "}",
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


@settings(max_examples=300, deadline=5000)
@given(DOCUMENTS, DOCUMENTS.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=10))
def test_any_definition_and_payload_is_judged_in_time_as_the_library_judges(
    document: Any, payload: bytes
) -> None:
    schema = json_schema(json.dumps(document))
    try:
        check_schema(schema)
    except InvalidInput:
        return
    check = payload_check(schema)
    if check.cost(payload) > CHEAP_COST_MAX:
        return  # a process of its own judges it, within a deadline
    try:
        value = json.loads(payload.decode(), parse_constant=_refuse)
        expected = jsonschema_rs.validator_for(document).is_valid(value)
    except ValueError:
        expected = False
    assert accepts(schema, payload) is expected


def _refuse(constant: str) -> float:
    raise ValueError(constant)


NAMES = st.sampled_from(["a", "b"])
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"type": "integer"},
        {"type": ["string", "null"]},
        {"const": 1},
        {"const": {"a": [1, 2]}},
        {"enum": [1, "a", [1], {"b": None}]},
        {"pattern": "^a+$"},
        {"pattern": "(?=a)a"},
        {"minimum": 2},
        {"minItems": 1, "uniqueItems": True},
        {"required": ["a"]},
        {"$ref": "#/$defs/a"},
        {"$ref": "#"},
        {},
        {"not": {}},
    ]
)


def _applied(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named, listed = st.dictionaries(NAMES, inner, max_size=2), st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "allOf": listed,
            "anyOf": listed,
            "oneOf": listed,
            "not": inner,
            "if": inner,
            "then": inner,
            "items": inner,
            "prefixItems": listed,
            "contains": inner,
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["a", "^b"]), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "dependentSchemas": named,
        },
    )


SCHEMAS = st.recursive(LEAVES, _applied, max_leaves=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "aa", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=400, deadline=5000)
@given(SCHEMAS, SCHEMAS, VALUES, st.integers(0, 20))
def test_a_cheap_check_of_a_recursive_schema_is_quick_and_gives_a_reason_in_time(
    root: dict[str, Any], definition: Any, value: Any, depth: int
) -> None:
    document = {**root, "$defs": {"a": definition}}
    for _ in range(depth):
        value = {"a": value} if depth % 2 else [value]
    payload = json.dumps(value).encode()
    schema = json_schema(json.dumps(document))
    try:
        check_schema(schema)
    except InvalidInput:
        return
    check = payload_check(schema)
    if check.cost(payload) <= CHEAP_COST_MAX:
        began = time.process_time()
        fits = check.fits(payload)
        assert time.process_time() - began < 2
        assert fits is jsonschema_rs.validator_for(document).is_valid(value)
        if not fits and check.explanation_cost(payload) <= CHEAP_COST_MAX:
            began = time.process_time()
            assert str(check.explain(payload)).startswith("the payload breaks the JSON schema at '/")
            assert time.process_time() - began < 2


@pytest.mark.parametrize("definition", ["{}", PERSON, '{"items": {"$ref": "#"}}'])
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
        (json_schema('{"const": 1}'), json_schema('{"const": true}'), False),
        (json_schema('{"enum": [0]}'), json_schema('{"enum": [false]}'), False),
        (json_schema('{"const": 1}'), json_schema('{"const": 1.0}'), True),
        (json_schema('{"const": 1e2}'), json_schema('{"const": 100}'), True),
        (
            json_schema('{"maximum": 18446744073709551616}'),
            json_schema('{"maximum": 18446744073709551617}'),
            False,
        ),
        (json_schema('{"enum": [1, 2]}'), json_schema('{"enum": [2, 1]}'), False),
        (json_schema('{"const": "\\u0061"}'), json_schema('{"const": "a"}'), True),
        (json_schema('{"const": 1, "const": 2}'), json_schema('{"const": 2}'), True),
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


@pytest.mark.parametrize(
    ("document", "bound"),
    [
        ({"enum": [{"a": number} for number in range(1001)]}, "an enum .* more than 1000 arrays and objects"),
        ({"allOf": [{}] * 10_001}, "more than 10000 schemas"),
        ({"pattern": "a" * 1001}, "a pattern .* more than 1000 characters"),
        ({"patternProperties": {"a" * 1001: {}}}, "a pattern .* more than 1000 characters"),
        ({"pattern": "^(a.{0,900}b){1,900}$"}, "takes more than 4194304 bytes of memory"),
        (
            {"allOf": [{"pattern": f"^a.{{0,{n}}}b$"} for n in range(100, 900)]},
            "takes more than 10485 bytes of memory",
        ),
        (
            {
                "$ref": "#/$defs/0",
                "$defs": {
                    "25": {},
                    **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(25)},
                },
            },
            "applies more than 100000 checks to one value",
        ),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}},
            "refers to itself for the same value",
        ),
    ],
)
def test_a_definition_over_a_bound_is_refused_in_time_and_the_bound_is_named(
    document: Any, bound: str
) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInput, match=bound):
        check_schema(json_schema(json.dumps(document)))
    assert time.process_time() - began < 5


def test_a_stored_definition_over_a_bound_still_checks_and_is_never_cheap() -> None:
    check = payload_check(json_schema(json.dumps({"enum": [{"a": number} for number in range(1001)]})))
    assert check.cost(b"1") > CHEAP_COST_MAX
    assert check.fits(b'{"a": 1000}')
    assert not check.fits(b'{"a": 1001}')


def test_integers_are_exact_whatever_their_size() -> None:
    schema = json_schema('{"maximum": 18446744073709551616, "multipleOf": 1}')
    assert accepts(schema, b"18446744073709551616")
    assert not accepts(schema, b"18446744073709551617")
    assert accepts(json_schema('{"const": ' + "7" * 1000 + "}"), b"7" * 1000)
    assert not accepts(json_schema('{"const": ' + "7" * 1000 + "}"), b"7" * 999 + b"8")


def test_of_members_with_one_name_the_last_counts() -> None:
    assert accepts(json_schema(PERSON), b'{"age": "x", "age": 3}')
    assert not accepts(json_schema(PERSON), b'{"age": 3, "age": "x"}')
    assert not accepts(json_schema(PERSON), b'{"age": 12345678901234567890, "age": "x"}')


def test_a_draft_of_the_definition_decides() -> None:
    draft_7 = "http://json-schema.org/draft-07/schema#"
    tuple_of_old = json.dumps({"$schema": draft_7, "items": [{"type": "string"}], "additionalItems": False})
    assert accepts(json_schema(tuple_of_old), b'["a"]')
    assert not accepts(json_schema(tuple_of_old), b'["a", 1]')
