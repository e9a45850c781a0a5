"""JSON Schema: which changes are shown to be compatible, and that what is shown is true."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import InvalidInput, LimitExceeded, SchemaViolation
from danube_common.schemas.differences import Differences
from danube_common.schemas.json_definition import JsonDefinition

Schema = Any


def definition(schema: Schema) -> JsonDefinition:
    return JsonDefinition(json.dumps(schema).encode())


def differences(reader: Schema, writer: Schema) -> list[str]:
    found = Differences()
    definition(reader).compare(definition(writer), found)
    return found.texts


def closed(*required: str, **members: Schema) -> Schema:
    return {
        "type": "object",
        "properties": members,
        "required": list(required),
        "additionalProperties": False,
    }


INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
TREE = {
    "type": "object",
    "properties": {"value": INTEGER, "children": {"type": "array", "items": {"$ref": "#"}}},
    "additionalProperties": False,
}
KINDS = [
    closed("kind", kind={"const": "cat"}, lives=INTEGER),
    closed("kind", kind={"const": "dog"}),
    closed("kind", kind={"const": "cow"}),
]

# Reader, writer.
SHOWN = [
    (True, INTEGER),
    ({}, closed("a", a=TEXT)),
    ({"type": "number"}, INTEGER),
    ({"type": ["string", "null"]}, TEXT),
    (closed(a=INTEGER, b=TEXT), closed(a=INTEGER)),
    (closed(a=INTEGER), closed("a", a=INTEGER)),
    ({"type": "object", "properties": {"a": INTEGER}}, closed(a=INTEGER, b=TEXT)),
    ({"type": "object", "properties": {"a": INTEGER}}, {**closed(a=INTEGER), "title": "x"}),
    ({"enum": ["a", "b", "c"]}, {"enum": ["b", "a"]}),
    ({"enum": [1]}, {"const": 1.0}),
    ({"minimum": 0}, {"type": "integer", "exclusiveMinimum": 0}),
    ({"maximum": 5}, {"type": "integer", "maximum": 4}),
    ({"minimum": 3}, TEXT),
    ({"multipleOf": 2}, {"type": "integer", "multipleOf": 6}),
    ({"maxLength": 5}, {"type": "string", "maxLength": 5, "pattern": "^a"}),
    ({"minLength": 1}, {"type": "string", "enum": ["a", "bb"]}),
    ({"type": "array", "items": {"type": "number"}}, {"type": "array", "items": INTEGER, "maxItems": 3}),
    ({"prefixItems": [INTEGER], "items": {}}, {"type": "array", "prefixItems": [INTEGER, TEXT]}),
    ({"anyOf": [TEXT, INTEGER, {"type": "null"}]}, {"anyOf": [INTEGER, TEXT]}),
    ({"anyOf": [TEXT, {"type": "null"}]}, {"type": ["null", "string"]}),
    ({"oneOf": KINDS}, {"oneOf": KINDS[:2]}),
    ({"allOf": [{"minimum": 0}, {"maximum": 9}]}, {"minimum": 1, "maximum": 8, "type": "integer"}),
    ({"not": TEXT}, INTEGER),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"minimum": 0}}}, {"$ref": "#/$defs/b", "$defs": {"b": TEXT}}),
    ({**TREE, "properties": {**TREE["properties"], "note": TEXT}}, TREE),  # type: ignore[dict-item]
    ({"patternProperties": {"^x": {}}}, {"type": "object", "patternProperties": {"^x": INTEGER}}),
    ({"patternProperties": {"^x": {"type": "number"}}}, {"patternProperties": {"^x": INTEGER}}),
    ({"propertyNames": {"maxLength": 3}}, closed(abc=INTEGER)),
    ({"if": TEXT, "then": {"minLength": 1}}, {"if": TEXT, "then": {"minLength": 1}, "type": "string"}),
    ({"format": "date"}, {"type": "string", "format": "date", "maxLength": 10}),
]  # fmt: skip
NOT_SHOWN = [
    (INTEGER, {"type": "number"}, "type"),
    (closed("b", a=INTEGER, b=TEXT), closed(a=INTEGER), "requires 'b'"),
    (closed(a=INTEGER), closed(a=INTEGER, b=TEXT), "/b"),
    ({"type": "object", "properties": {"a": TEXT}}, {"type": "object", "properties": {"a": INTEGER}}, "/a: "),
    ({"type": "object", "properties": {"a": INTEGER}}, {"type": "object"}, "additionalProperties are open"),
    ({"enum": ["a"]}, {"enum": ["a", "b"]}, "enum"),
    ({"const": True}, {"const": 1}, "const"),
    ({"minimum": 1}, {"type": "integer", "exclusiveMinimum": 0}, "minimum"),
    ({"exclusiveMaximum": 5}, {"type": "integer", "maximum": 5}, "exclusiveMaximum"),
    ({"multipleOf": 4}, {"type": "integer", "multipleOf": 2}, "multipleOf"),
    ({"pattern": "^a"}, TEXT, "pattern"),
    ({"type": "array", "items": INTEGER}, {"type": "array", "items": {"type": "number"}}, "type"),
    ({"uniqueItems": True}, {"type": "array"}, "uniqueItems"),
    ({"anyOf": [TEXT, INTEGER]}, {"anyOf": [TEXT, {"type": "null"}]}, "anyOf"),
    ({"oneOf": [{"type": "number"}, INTEGER]}, INTEGER, "oneOf"),
    ({"not": TEXT}, {"type": ["string", "null"]}, "not"),
    ({"unevaluatedProperties": False}, {"type": "object"}, "unevaluatedProperties"),
    (TREE, {**TREE, "properties": {**TREE["properties"], "value": TEXT}}, "/value"),  # type: ignore[dict-item]
    ({"$schema": "http://json-schema.org/draft-07/schema#", **INTEGER}, INTEGER, r"\$schema"),
    (False, INTEGER, "no value"),
    ({"items": {"$schema": "http://json-schema.org/draft-04/schema#"}}, INTEGER, r"\$schema"),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "writer"), SHOWN)
def test_a_wider_schema_is_shown_to_read_a_narrower_one(reader: Schema, writer: Schema) -> None:
    assert differences(reader, writer) == []


@pytest.mark.parametrize(("reader", "writer", "reason"), NOT_SHOWN)
def test_what_is_not_shown_is_refused_with_where_and_why(reader: Schema, writer: Schema, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert differences(reader, writer) == []


def test_a_keyword_beside_a_reference_counts_only_where_the_dialect_says_so() -> None:
    writer = {"$ref": "#/definitions/any", "type": "integer", "definitions": {"any": {}}}
    reader = {"type": "integer"}
    assert differences(reader, writer) == []
    old = {"$schema": "http://json-schema.org/draft-07/schema#"}
    assert differences({**old, **reader}, {**old, **writer})


@pytest.mark.parametrize("text", [b"{", b"\xff", b'{"type": "nothing"}', b"[]", b'{"$ref": "http://x/y"}'])
def test_a_text_that_is_no_json_schema_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        JsonDefinition(text)


def test_schemas_that_double_with_each_level_end_in_time() -> None:
    levels = {f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(12)}
    reader = {"$defs": {**levels, "l12": {"properties": {"a": {"minimum": 1}}}}, "$ref": "#/$defs/l0"}
    writer = {"$defs": {**levels, "l12": {"properties": {"a": {"minimum": 0}}}}, "$ref": "#/$defs/l0"}
    with contextlib.suppress(LimitExceeded):
        assert differences(reader, writer)


def test_differences_of_wide_schemas_are_bounded() -> None:
    wide = {"properties": {f"m{n}": INTEGER for n in range(300)}}
    found = differences(wide, {"type": "object"})
    assert len(found) == 21
    assert all(len(text) <= 300 for text in found)


def test_a_payload_is_a_value_of_the_schema() -> None:
    check = definition(closed("a", a=INTEGER)).payload_check()
    check(b'{"a": 1}')
    for wrong in (b"{}", b'{"a": "x"}', b"{", b""):
        with pytest.raises(SchemaViolation):
            check(wrong)


# Properties. The schemas are drawn by a seed: hundreds of pairs in the time in which hypothesis builds ten.

NAMES = ["a", "b"]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
SCALARS = [None, True, False, -1, 0, 1, 2, 3, 0.5, 1.0, "", "a", "ab", "abc"]
SCALAR_KEYWORDS: dict[str, list[Any]] = {
    "type": [*TYPES, ["string", "null"], ["object", "integer"]],
    "minimum": [0, 1], "maximum": [1, 2], "exclusiveMinimum": [0, 1], "exclusiveMaximum": [1, 2.5],
    "multipleOf": [1, 2, 0.5], "minLength": [1, 2], "maxLength": [1, 2], "pattern": ["a", "^b"],
    "minItems": [0, 1], "maxItems": [1, 2], "uniqueItems": [False, True], "required": [["a"], ["a", "b"]],
    "minProperties": [0, 1], "maxProperties": [1, 2], "dependentRequired": [{"a": ["b"]}],
    "propertyNames": [{"maxLength": 0}, {"const": "a"}], "unevaluatedProperties": [False],
    "const": SCALARS, "enum": [["a", "b", 1], [None, True, 0], [[], {}]], "$ref": ["#", "#/$defs/d"],
}  # fmt: skip
HOLD_ONE = ["items", "additionalProperties", "contains", "not", "if", "then", "else"]
HOLD_SEVERAL = ["anyOf", "oneOf", "allOf", "prefixItems"]
HOLD_NAMED = ["properties", "patternProperties"]
LIKELY = ["type", "type", "properties", "properties", "additionalProperties", "required", "items"]
DIALECTS = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
]


class Drawn:
    """Draws schemas and values."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 3) -> Any:
        kind = self.random.randrange(4 if depth else 2)
        if kind < 2:
            return self.random.choice(SCALARS)
        if kind == 2:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        return {name: self.value(depth - 1) for name in NAMES if self.random.random() < 0.6}

    def schema(self, depth: int = 3) -> Schema:
        if not depth or self.random.random() < 0.05:
            return self.random.choice([True, False, {}, INTEGER, TEXT])
        known = [*SCALAR_KEYWORDS, *HOLD_ONE, *HOLD_SEVERAL, *HOLD_NAMED, *LIKELY * 5]
        return {
            keyword: self.of(keyword, depth - 1)
            for keyword in self.random.sample(known, self.random.randrange(1, 6))
        }

    def of(self, keyword: str, depth: int) -> Any:
        if keyword in SCALAR_KEYWORDS:
            return self.random.choice(SCALAR_KEYWORDS[keyword])
        if keyword == "additionalProperties" and self.random.random() < 0.5:
            return False
        if keyword in HOLD_ONE:
            return self.schema(depth)
        if keyword in HOLD_SEVERAL:
            return [self.schema(depth) for _ in range(self.random.randrange(1, 3))]
        names = NAMES if keyword == "properties" else ["a", "^b"]
        return {name: self.schema(depth) for name in names if self.random.random() < 0.7}

    def changed(self, schema: Schema) -> Schema:
        """A schema from which parts were taken, or to which some were added."""
        if not isinstance(schema, dict):
            return schema
        found = {name: part for name, part in schema.items() if self.random.random() < 0.85}
        for name, part in found.items():
            if self.random.random() < 0.5:
                continue
            if name in HOLD_NAMED:
                found[name] = {key: self.changed(inner) for key, inner in part.items()}
            elif name in HOLD_ONE:
                found[name] = self.changed(part)
            elif name in HOLD_SEVERAL:
                found[name] = [*map(self.changed, part), *[self.schema(1)] * self.random.randrange(2)]
            elif name in SCALAR_KEYWORDS:
                found[name] = self.of(name, 1)
        return found


@settings(max_examples=20)
@given(st.integers(0, 1 << 32))
def test_a_reader_takes_every_value_of_a_writer_that_it_is_shown_to_read(seed: int) -> None:
    drawn = Drawn(seed)
    for _ in range(10):
        dialect = {"$schema": drawn.random.choice(DIALECTS)}
        given = drawn.schema()
        writer = {**(given if isinstance(given, dict) else {}), "$defs": {"d": drawn.schema(2)}, **dialect}
        reader = {"$defs": writer["$defs"], **drawn.changed(writer), **dialect}
        try:
            if differences(reader, writer):
                continue
        except (InvalidInput, LimitExceeded):
            continue
        writes, reads = jsonschema_rs.validator_for(writer), jsonschema_rs.validator_for(reader)
        for value in (drawn.value() for _ in range(40)):
            if writes.is_valid(value):
                assert reads.is_valid(value), (writer, reader, value)
