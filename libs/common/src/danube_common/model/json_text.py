"""JSON texts: exact parsing within named bounds, and comparison by JSON's rules.

One rule for payloads and for the definitions of JSON schemas. Of members with the same name the last one
counts. Integers are exact, whatever their size; other numbers are doubles.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, Final

import orjson

JSON_DEPTH_MAX: Final = 128
"""Arrays and objects within each other, of a payload and of a schema's definition."""
NUMBER_DIGITS_MAX: Final = 1000
"""Characters of one integer."""

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""Possessive, and the closing quote may be missing: one pass over any bytes."""
_MANY_DIGITS: Final = re.compile(rb"[0-9]{19,}")
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = {ord("["): 1, ord("]"): -1}
_SHALLOW: Final = 8
"""Innermost levels that are removed level by level, which is faster for usual data than counting."""


class JsonTextError(ValueError):
    """The text is not JSON, or is over a bound. The message continues "the payload is ..."."""


def parse_json(text: bytes, depth_max: int = JSON_DEPTH_MAX) -> Any:
    """Return the value of a JSON text. Raises JsonTextError."""
    if text.count(b"[") + text.count(b"{") > depth_max and nesting(text) > depth_max:
        raise JsonTextError(f"nested deeper than {depth_max} levels")
    exact = _MANY_DIGITS.search(text) is not None
    try:
        # orjson reads an integer beyond 64 bits as a double: here it decides only whether the text is JSON.
        value = orjson.loads(_MANY_DIGITS.sub(b"0", text) if exact else text)
        if exact:
            value = json.loads(text.decode(), parse_int=_integer, parse_float=_double)
    except JsonTextError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonTextError(f"not JSON: {error}") from None
    return value


def nesting(text: bytes) -> int:
    """Return how deep the arrays and objects of a JSON text are nested; for other bytes, some number."""
    brackets = _STRING.sub(b"", text).translate(_BRACKETS, _NO_BRACKETS)
    for removed in range(_SHALLOW):
        if not brackets:
            return removed
        brackets = brackets.replace(b"[]", b"")
    steps = map(_STEP.__getitem__, brackets)
    return _SHALLOW + max(itertools.accumulate(steps), default=0)


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are equal as JSON: 1 equals 1.0 but not true; members have no order."""
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    return json.dumps(_integral(value), sort_keys=True)


def _integral(value: Any) -> Any:
    """Replace doubles without a fraction by integers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_integral(item) for item in value]
    if isinstance(value, dict):
        return {name: _integral(item) for name, item in value.items()}
    return value


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > NUMBER_DIGITS_MAX:
        raise JsonTextError(f"holding an integer of more than {NUMBER_DIGITS_MAX} digits")
    return int(digits)


def _double(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JsonTextError(f"holding a number beyond a double, {text[:40]}")
    return number
