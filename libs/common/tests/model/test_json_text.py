from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.json_text import (
    JSON_DEPTH_MAX,
    NUMBER_DIGITS_MAX,
    JsonTextError,
    nesting,
    parse_json,
    same_json,
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_every_value_is_read_as_it_was_written(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    assert parse_json(text) == value
    assert nesting(text) == depth_of(value)


@pytest.mark.parametrize("number", [2**63, 2**64, 2**64 + 1, -(2**64) - 1, 10**NUMBER_DIGITS_MAX - 1])
def test_integers_are_exact(number: int) -> None:
    assert parse_json(str(number).encode()) == number
    assert parse_json(json.dumps({"a": [number, 1.5, "x" * 30]}).encode()) == {"a": [number, 1.5, "x" * 30]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"NaN", "not JSON"),
        (b"[Infinity]", "not JSON"),
        (b"'a'", "not JSON"),
        (b"01", "not JSON"),
        (b"0" * 30, "not JSON"),
        (b"1" * 30 + b" 2", "not JSON"),
        (b"\xff" + b"1" * 30, "not JSON"),
        (b'"\\ud800' + b"1" * 30 + b'"', "not JSON"),
        (b"1e400", "not JSON"),
        (b"1" * 30 + b"e400", "beyond a double"),
        (b"1" * (NUMBER_DIGITS_MAX + 1), "more than 1000 digits"),
        (b"[" * 129 + b"]" * 129, "deeper than 128 levels"),
        (b'{"":' * 129 + b"1" + b"}" * 129, "deeper than 128 levels"),
        (b'["]]]]]]]]]"' + b",[" * 128 + b"]" * 129, "deeper than 128 levels"),
    ],
)
def test_what_is_no_json_or_over_a_bound_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(JsonTextError, match=reason):
        parse_json(text)


def test_the_depth_bound_is_exact() -> None:
    text = b'["[[[[",' * JSON_DEPTH_MAX + b"1" + b"]" * JSON_DEPTH_MAX
    assert nesting(text) == JSON_DEPTH_MAX
    parse_json(text)


@pytest.mark.parametrize(
    "text",
    [b'["' + b'\\"' * 1_000_000, b"[" * 2_000_000, b'"' * 2_000_001, b"[]" * 1_000_000, b"1" * 2_000_000],
    ids=["an endless string", "an endless depth", "quotes", "empty arrays", "digits"],
)
def test_no_bytes_take_long(text: bytes) -> None:
    began = time.process_time()
    with pytest.raises(JsonTextError):
        parse_json(text)
    nesting(text)
    assert time.process_time() - began < 10


@given(VALUES, VALUES)
def test_values_are_the_same_if_they_are_equal_as_json(one: Any, other: Any) -> None:
    assert same_json(one, json.loads(json.dumps(one)))
    if same_json(one, other):
        assert one == other


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        (-0.0, 0, True),
        (2**64, float(2**64), True),
        (2**64 + 1, float(2**64), False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
    ],
)
def test_numbers_booleans_and_members_compare_by_the_rules_of_json(
    one: Any, other: Any, *, same: bool
) -> None:
    assert same_json(one, other) is same
    assert same_json([{"x": one}], [{"x": other}]) is same
