"""Payloads by the rules of each draft of JSON Schema, a few cases of each rule on which they differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from danube_common.errors import SchemaViolation
from danube_common.schemas.json_definition import JsonDefinition

DRAFTS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}
STRING = {"type": "string"}
INTEGER = {"type": "integer"}
ALL, SINCE_6, SINCE_7, SINCE_2019 = (4, 6, 7, 2019, 2020), (6, 7, 2019, 2020), (7, 2019, 2020), (2019, 2020)
Case = tuple[tuple[int, ...], dict[str, Any], list[Any], list[Any]]

# Drafts, schema, values that fit, values that do not.
CASES: list[Case] = [
    # Validation, "Any Instance Type": a number with a zero fraction is an integer, except in draft 4.
    (SINCE_6, INTEGER, [1, 1.0, -3], [1.5, "1", None, True]),
    (ALL, {"type": ["string", "null"]}, ["", None], [0, False]),
    # "enum", "const": equality by value: 1 and 1.0 are one, 0 and false are not; members have no order.
    (ALL, {"enum": [1, {"a": 1, "b": 2}]}, [1, 1.0, {"b": 2, "a": 1}], [True, {"a": 1}]),
    (SINCE_6, {"const": 0}, [0, 0.0], [False, "", None]),
    # Draft 4: exclusiveMinimum is a boolean beside minimum; since 6 it is the bound itself.
    ((4,), {"minimum": 1, "exclusiveMinimum": True}, [1.1], [1]),
    (SINCE_6, {"exclusiveMinimum": 1, "exclusiveMaximum": 3}, [2], [1, 3]),
    (ALL, {"multipleOf": 0.5}, [1, 1.5, "x"], [0.75]),
    # Strings: the length is counted in characters; a pattern is searched, not matched as a whole.
    (ALL, {"maxLength": 2}, ["ab", "\U0001f600\U0001f600", 123], ["abc"]),
    (ALL, {"pattern": "b+"}, ["abbc", 7], ["ac"]),
    # Arrays.
    (ALL, {"uniqueItems": True}, [[1, 2], [0, False], "aa"], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    ((4, 6, 7, 2019), {"items": [INTEGER], "additionalItems": False}, [[], [1]], [["a"], [1, 2]]),
    ((2020,), {"prefixItems": [INTEGER], "items": False}, [[], [1]], [["a"], [1, 2]]),
    ((2020,), {"prefixItems": [INTEGER], "items": STRING}, [[1, "a"]], [[1, 2]]),
    (SINCE_6, {"contains": INTEGER}, [["a", 1]], [[], ["a"]]),
    (SINCE_2019, {"contains": INTEGER, "minContains": 2, "maxContains": 3}, [[1, 2]], [[1], [1, 2, 3, 4]]),
    # Objects.
    (ALL, {"required": ["a"], "properties": {"a": STRING}}, [{"a": ""}, []], [{}, {"a": 1}]),
    (
        ALL,
        {"properties": {"a": {}}, "patternProperties": {"^x": INTEGER}, "additionalProperties": False},
        [{"a": "any", "x1": 1}],
        [{"b": 1}, {"x1": "a"}],
    ),
    (SINCE_6, {"propertyNames": {"maxLength": 1}}, [{"a": 1}], [{"ab": 1}]),
    ((4, 6, 7), {"dependencies": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}], [{"a": 1}]),
    (SINCE_2019, {"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}], [{"a": 1}]),
    (SINCE_2019, {"dependentSchemas": {"a": {"required": ["b"]}}}, [{"b": 1}], [{"a": 1}]),
    # Combinations; if, then and else since 7.
    (ALL, {"oneOf": [INTEGER, {"minimum": 2}]}, [1, 2.5, "x"], [3, 1.5]),
    (ALL, {"not": INTEGER}, ["a"], [1]),
    (SINCE_7, {"if": INTEGER, "then": {"minimum": 0}, "else": STRING}, [1, "a"], [-1, None]),
    # References: beside $ref nothing counts up to 7, everything does since 2019-09.
    ((4, 6, 7), {"$ref": "#/definitions/i", "maximum": 1, "definitions": {"i": INTEGER}}, [2], ["a"]),
    (SINCE_2019, {"$ref": "#/$defs/i", "maximum": 1, "$defs": {"i": INTEGER}}, [1], [2, "a"]),
    (SINCE_6, {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, [[]], [{}, {"a": {}}]),
    (
        SINCE_2019,
        {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
        [{"a": 1}],
        [{"a": 1, "b": 1}],
    ),
    # A format only annotates since 2019-09.
    (SINCE_2019, {"format": "date"}, ["today"], []),
]


@pytest.mark.parametrize(
    ("draft", "schema", "fits", "unfit"),
    [(draft, *case[1:]) for case in CASES for draft in case[0]],
)
def test_a_payload_fits_by_the_rules_of_its_draft(
    draft: int, schema: dict[str, Any], fits: list[Any], unfit: list[Any]
) -> None:
    check = JsonDefinition(json.dumps({"$schema": DRAFTS[draft], **schema}).encode()).payload_check()
    for value in fits:
        check(json.dumps(value).encode())
    for value in unfit:
        with pytest.raises(SchemaViolation):
            check(json.dumps(value).encode())
