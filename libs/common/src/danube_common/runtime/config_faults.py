"""What is wrong with a value of the configuration, in plain words: what is allowed, and what was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

VALUE_CHARACTERS_MAX: Final = 80
"""A longer value is cut where it is repeated in a message."""

_NUMBERS: Final = {"int": "a whole number", "float": "a number", "finite": "a number"}
_KINDS: Final = {
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "list": "a list",
    "model": "a section",
}
_BOUNDS: Final = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of")


def explain(fault: ErrorDetails, info: FieldInfo | None) -> str:
    """Return what is wrong without the value: ``must be a whole number from 1 to 5``.

    Args:
        fault: one fault of a `pydantic.ValidationError`.
        info: the field, if the fault is one of a field.
    """
    kind = fault["type"]
    context: Mapping[str, Any] = fault.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return fault["msg"].partition(", ")[2].replace("\n", " ")
    if kind == "missing":
        return "must be set"
    if kind in ("literal_error", "enum"):
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    first = kind.partition("_")[0]
    if kind in _BOUNDS:
        whole = info is not None and info.annotation is int
        return f"must be {_NUMBERS['int' if whole else 'float']}{_range(info)}"
    if first in _NUMBERS:
        return f"must be {_NUMBERS[first]}{_range(info)}"
    if first in _KINDS:
        return f"must be {_KINDS[first]}"
    return fault["msg"].replace("Input should be", "must be").replace("\n", " ")


def given(value: object) -> str:
    """Return a value as it is repeated in a message."""
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 3]}..."


def _range(info: FieldInfo | None) -> str:
    """`` from 1 to 5``, `` of at least 1``, `` above 0 and at most 600``; empty without bounds."""
    bounds: dict[str, object] = {}
    for bound in info.metadata if info is not None else ():
        for name in ("ge", "gt", "le", "lt"):
            if getattr(bound, name, None) is not None:
                bounds[name] = getattr(bound, name)
    if bounds.keys() == {"ge", "le"}:
        return f" from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    told = " and ".join(f"{words[name]} {bounds[name]}" for name in words if name in bounds)
    return f" {told}" if told else ""
