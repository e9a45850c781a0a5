"""Whether all values of one JSON schema are values of another: shown by rules, or not shown.

The rules are sound, not complete. The reader is a conjunction of keywords; for each of them it is shown that
the writer's schema allows no value that breaks it. Keywords of the writer that no rule uses are dropped: that
only adds to the writer's values. Keywords of the reader that no rule knows must be the writer's as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from danube_common.schemas.differences import Differences
from danube_common.schemas.json_values import (
    REFERENCES_MAX,
    TYPES,
    Json,
    JsonDocument,
    disjoint,
    named_types,
    type_of,
)

DEPTH_MAX: Final = 64
"""Schemas within each other that are compared; what is deeper is not shown."""
CASES_DEPTH_MAX: Final = 4
"""Times that the writer's values are split into cases for one comparison."""
CASES_MAX: Final = 64
"""Values of an ``enum`` that are looked at one by one."""
_ANY: Final[dict[str, Json]] = {}

_NUMBERS: Final = frozenset({"integer", "fraction"})
_OF_STRINGS: Final = "minLength maxLength pattern format contentEncoding contentMediaType"
_OF_ARRAYS: Final = (
    "items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains "
    "unevaluatedItems"
)
_OF_OBJECTS: Final = (
    "properties patternProperties additionalProperties required minProperties maxProperties propertyNames "
    "dependencies dependentRequired dependentSchemas unevaluatedProperties"
)
_APPLIES_TO: Final = {
    keyword: types
    for types, keywords in (
        (_NUMBERS, "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf"),
        (frozenset({"string"}), _OF_STRINGS),
        (frozenset({"array"}), _OF_ARRAYS),
        (frozenset({"object"}), _OF_OBJECTS),
        (TYPES, "type const enum not if then else $dynamicRef $recursiveRef"),
    )
    for keyword in keywords.split()
}
"""The types of values that a keyword of the reader restricts. Keywords that are not here restrict nothing."""
_CONTEXT: Final = {
    "if": ("if", "then", "else"),
    "then": ("if", "then", "else"),
    "else": ("if", "then", "else"),
    "contains": ("contains", "minContains", "maxContains"),
    "minContains": ("contains", "minContains", "maxContains"),
    "maxContains": ("contains", "minContains", "maxContains"),
    "additionalProperties": ("properties", "patternProperties", "additionalProperties"),
    "items": ("items", "prefixItems"),
    "additionalItems": ("items", "additionalItems"),
}
"""Keywords whose meaning depends on their neighbours."""
_IN_PLACE: Final = ("$ref", "allOf", "anyOf", "oneOf")
_ALWAYS_DIFFERENT: Final = frozenset(
    {"unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
)
"""Keywords that are shown only by schemas that are equal as a whole."""


class JsonComparison:
    """Compares the schemas of a reader's definition with those of a writer's."""

    def __init__(self, reader: JsonDocument, writer: JsonDocument, differences: Differences) -> None:
        self._reader = reader
        self._writer = writer
        self._differences = differences
        self._open: dict[tuple[int, int], tuple[int, Json, Json]] = {}
        self._depth = 0
        self._descents = 0
        self._quiet = 0
        self._rules: Mapping[str, Callable[[dict[str, Json], dict[str, Json], str], bool]] = {
            "minimum": self._lower,
            "exclusiveMinimum": self._lower,
            "maximum": self._upper,
            "exclusiveMaximum": self._upper,
            "multipleOf": self._multiple,
            "minLength": lambda w, r, _: w.get("minLength", 0) >= r["minLength"],
            "maxLength": lambda w, r, _: _at_most(w.get("maxLength"), r["maxLength"]),
            "minItems": lambda w, r, _: w.get("minItems", 0) >= r["minItems"],
            "maxItems": lambda w, r, _: _at_most(w.get("maxItems"), r["maxItems"]),
            "uniqueItems": lambda w, r, _: not r["uniqueItems"] or _at_most(w.get("maxItems"), 1),
            "items": self._items,
            "prefixItems": self._items,
            "additionalItems": self._items,
            "required": lambda w, r, _: set(r["required"]) <= set(w.get("required", [])),
            "minProperties": lambda w, r, _: (
                max(w.get("minProperties", 0), len(set(w.get("required", [])))) >= r["minProperties"]
            ),
            "maxProperties": self._max_properties,
            "properties": self._properties,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "propertyNames": self._property_names,
        }

    def subset(self, writer: Json, reader: Json, path: str) -> bool:
        """Return whether each value of ``writer`` is shown to be one of ``reader``; note why it is not."""
        self._differences.count_comparison()
        if reader is True or reader == {} or writer is False:
            return True
        if self._equal(writer, reader):
            return True
        if reader is False:
            return self._not_shown(path, "the reader allows no value here")
        if self._depth >= DEPTH_MAX:
            return self._not_shown(path, "the schemas are nested too deep to compare")
        given = _ANY if writer is True else writer
        pair = (id(given), id(reader))
        if pair in self._open:
            # For values within other values the claim may be assumed: by induction over their depth.
            return self._open[pair][0] < self._descents
        self._open[pair] = (self._descents, given, reader)
        self._depth += 1
        try:
            return self._conjunction(given, reader, path)
        finally:
            self._depth -= 1
            del self._open[pair]

    def _conjunction(self, writer: Json, reader: dict[str, Json], path: str) -> bool:
        types = self._writer.types(writer)
        shown = True
        for keyword in reader:
            if keyword in _IN_PLACE:
                holds = self._composed(writer, reader, keyword, path)
            elif keyword not in _APPLIES_TO or not types & _APPLIES_TO[keyword]:
                continue
            else:
                holds = self._holds(writer, reader, keyword, path)
            if not holds:
                shown = False
                if self._quiet:
                    break
        return shown

    # Keywords that hold schemas for the value itself

    def _composed(self, writer: Json, reader: dict[str, Json], keyword: str, path: str) -> bool:
        if keyword == "$ref":
            target = self._reader.target(reader["$ref"])
            if target is None:
                return self._not_shown(path, "the reader's $ref is not of the form #/...")
            return self.subset(writer, target, path)
        if keyword == "allOf":
            found = [self.subset(writer, member, path) for member in reader["allOf"]]
            return all(found)
        if self._alternatives(writer, reader[keyword], path, exactly_one=keyword == "oneOf", depth=0):
            return True
        return self._not_shown(
            path, f"not all of the writer's values are shown to fit the reader's {keyword}"
        )

    def _alternatives(
        self, writer: Json, branches: list[Json], path: str, *, exactly_one: bool, depth: int
    ) -> bool:
        for number, branch in enumerate(branches):
            if not self._shown_quietly(writer, branch, path):
                continue
            others = [*branches[:number], *branches[number + 1 :]]
            if not exactly_one or all(disjoint(writer, o, self._writer, self._reader) for o in others):
                return True
        cases = self._cases(writer) if depth < CASES_DEPTH_MAX else []
        return len(cases) > 1 and all(
            self._alternatives(case, branches, path, exactly_one=exactly_one, depth=depth + 1)
            for case in cases
        )

    def _cases(self, writer: Json) -> list[Json]:
        """Return schemas that allow, together, what the writer allows; or nothing."""
        for each in self._writer.conjuncts(writer):
            for keyword in ("anyOf", "oneOf"):
                if keyword in each:
                    rest = {name: value for name, value in each.items() if name != keyword}
                    return [{"allOf": [branch, rest]} for branch in each[keyword]]
            if isinstance(each.get("type"), list):
                return [{**each, "type": name} for name in each["type"]]
            if "enum" in each and len(each["enum"]) <= CASES_MAX:
                rest = {name: value for name, value in each.items() if name != "enum"}
                return [{**rest, "const": value} for value in each["enum"]]
        return []

    # Keywords that restrict the value by themselves

    def _holds(self, writer: Json, reader: dict[str, Json], keyword: str, path: str) -> bool:
        if self._holds_quietly(writer, reader, keyword, path, 0):
            return True
        if not self._quiet and keyword in (
            "properties",
            "patternProperties",
            "additionalProperties",
            "items",
        ):
            before = self._differences.texts
            self._rules[keyword](self._main(writer), reader, path)  # once more, for the reasons within
            if self._differences.texts != before:
                return False
        return self._not_shown(path, _reason(keyword, reader[keyword], self._main(writer).get(keyword)))

    def _holds_quietly(
        self, writer: Json, reader: dict[str, Json], keyword: str, path: str, depth: int
    ) -> bool:
        """Return whether one of the writer's conjuncts implies the keyword, or each alternative of one."""
        if depth > REFERENCES_MAX or not self._writer.types(writer) & _APPLIES_TO[keyword]:
            return depth <= REFERENCES_MAX
        if keyword in ("type", "const", "enum") or self._writer.values(writer) is not None:
            holds = self._values_hold(writer, reader, keyword)
            if holds is not None:
                return holds
        if keyword == "not" and disjoint(writer, reader["not"], self._writer, self._reader):
            return True
        for each in self._writer.conjuncts(writer):
            self._differences.count_comparison()
            if self._same(each, reader, keyword):
                return True
            rule = self._rules.get(keyword)
            if rule is not None:
                self._quiet += 1
                try:
                    if rule(each, reader, path):
                        return True
                finally:
                    self._quiet -= 1
            for alternatives in (each.get("anyOf"), each.get("oneOf")):
                if alternatives and all(
                    self._holds_quietly(one, reader, keyword, path, depth + 1) for one in alternatives
                ):
                    return True
        return False

    def _values_hold(self, writer: Json, reader: dict[str, Json], keyword: str) -> bool | None:
        """Decide a keyword by types and by the writer's values; None if that does not decide it."""
        if keyword == "type":
            return self._writer.types(writer) <= named_types(reader["type"])
        values = self._writer.values(writer)
        if values is None:
            return False if keyword in ("const", "enum") else None
        if keyword in ("const", "enum"):
            allowed = [reader["const"]] if keyword == "const" else reader["enum"]
            known = {self._reader.digest(each) for each in allowed}
            return all(self._writer.digest(value) in known for value in values)
        check = _VALUE_CHECKS.get(keyword)
        if check is None:
            return None
        concerned = [value for value in values if type_of(value) in _APPLIES_TO[keyword]]
        return all(check(value, reader[keyword]) for value in concerned) or None

    def _same(self, writer: dict[str, Json], reader: dict[str, Json], keyword: str) -> bool:
        """Return whether the writer has the same keyword, with the same neighbours that it depends on."""
        if keyword in _ALWAYS_DIFFERENT or keyword not in writer:
            return False
        return all(
            (name in writer) == (name in reader)
            and (name not in reader or self._equal(writer[name], reader[name]))
            for name in _CONTEXT.get(keyword, (keyword,))
        )

    def _equal(self, writer: Json, reader: Json) -> bool:
        return self._writer.digest(writer) == self._reader.digest(reader) and not self._reader.refers(reader)

    def _main(self, writer: Json) -> dict[str, Json]:
        return next(iter(self._writer.conjuncts(writer)), {})

    # Rules; each answers for the keywords of one conjunct of the writer

    def _lower(self, writer: dict[str, Json], reader: dict[str, Json], _path: str) -> bool:
        asked = max(_bound(reader, "minimum", 0), _bound(reader, "exclusiveMinimum", 1))
        known = [
            b for b in (_bound(writer, "minimum", 0), _bound(writer, "exclusiveMinimum", 1)) if b[1] >= 0
        ]
        return bool(known) and max(known) >= asked

    def _upper(self, writer: dict[str, Json], reader: dict[str, Json], _path: str) -> bool:
        asked = [_negated(reader, "maximum", 0), _negated(reader, "exclusiveMaximum", 1)]
        known = [_negated(writer, "maximum", 0), _negated(writer, "exclusiveMaximum", 1)]
        present = [bound for bound in known if bound[1] >= 0]
        return bool(present) and max(present) >= max(asked)

    def _multiple(self, writer: dict[str, Json], reader: dict[str, Json], _path: str) -> bool:
        step, given = reader["multipleOf"], writer.get("multipleOf")
        if step == 1 and writer.get("type") == "integer":
            return True
        return isinstance(step, int) and isinstance(given, int) and given % step == 0

    def _max_properties(self, writer: dict[str, Json], reader: dict[str, Json], _path: str) -> bool:
        if _at_most(writer.get("maxProperties"), reader["maxProperties"]):
            return True
        closed = writer.get("additionalProperties") is False and "patternProperties" not in writer
        return closed and len(writer.get("properties", {})) <= reader["maxProperties"]

    def _properties(self, writer: dict[str, Json], reader: dict[str, Json], path: str) -> bool:
        shown = True
        for name, asked in reader["properties"].items():
            inner = f"{path}/{name}"
            given = self._writer.member(writer, name)
            if given in (True, {}) and name not in writer.get("properties", {}) and asked not in (True, {}):
                shown = self._not_shown(
                    inner,
                    "the writer allows this member with any value, as its additionalProperties are open",
                )
            else:
                shown = self._below(given, asked, inner) and shown
            if self._quiet and not shown:
                return False
        return shown

    def _pattern_properties(self, writer: dict[str, Json], reader: dict[str, Json], path: str) -> bool:
        shown = True
        for pattern, asked in reader["patternProperties"].items():
            given = writer.get("patternProperties", {})
            sources = [given[pattern]] if pattern in given else _all_members(writer)
            for each in sources:
                shown = self._below(each, asked, f"{path}/{pattern}") and shown
        return shown

    def _additional_properties(self, writer: dict[str, Json], reader: dict[str, Json], path: str) -> bool:
        asked = reader["additionalProperties"]
        own = reader.get("properties", {})
        shown = True
        for name, given in writer.get("properties", {}).items():
            if name not in own:
                shown = self._below(given, asked, f"{path}/{name}") and shown
        patterns = [
            schema
            for pattern, schema in writer.get("patternProperties", {}).items()
            if pattern not in reader.get("patternProperties", {})
        ]
        for given in (*patterns, writer.get("additionalProperties", True)):
            shown = self._below(given, asked, f"{path}/*") and shown
        return shown

    def _property_names(self, writer: dict[str, Json], reader: dict[str, Json], path: str) -> bool:
        asked = reader["propertyNames"]
        if "propertyNames" in writer and self._below(writer["propertyNames"], asked, path):
            return True
        closed = writer.get("additionalProperties") is False and "patternProperties" not in writer
        return closed and all(
            self._below({"const": name}, asked, path) for name in writer.get("properties", {})
        )

    def _items(self, writer: dict[str, Json], reader: dict[str, Json], path: str) -> bool:
        first, rest = self._writer.items(writer)
        asked_first, asked_rest = self._reader.items(reader)
        limit = writer.get("maxItems")
        shown = True
        for number in range(max(len(first), len(asked_first))):
            if limit is not None and number >= limit:
                return shown
            given = first[number] if number < len(first) else rest
            asked = asked_first[number] if number < len(asked_first) else asked_rest
            shown = self._below(given, asked, f"{path}/{number}") and shown
        if limit is not None and limit <= max(len(first), len(asked_first)):
            return shown
        return self._below(rest, asked_rest, f"{path}/[]") and shown

    def _below(self, writer: Json, reader: Json, path: str) -> bool:
        """Compare the schemas of values within the value."""
        self._descents += 1
        try:
            return self.subset(writer, reader, path)
        finally:
            self._descents -= 1

    def _shown_quietly(self, writer: Json, reader: Json, path: str) -> bool:
        self._quiet += 1
        try:
            return self.subset(writer, reader, path)
        finally:
            self._quiet -= 1

    def _not_shown(self, path: str, why: str) -> bool:
        if not self._quiet:
            self._differences.add(path, why)
        return False


_VALUE_CHECKS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "minimum": lambda value, bound: bool(value >= bound),
    "maximum": lambda value, bound: bool(value <= bound),
    "exclusiveMinimum": lambda value, bound: bool(value > bound),
    "exclusiveMaximum": lambda value, bound: bool(value < bound),
    "minLength": lambda value, bound: len(value) >= bound,
    "maxLength": lambda value, bound: len(value) <= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
    "maxProperties": lambda value, bound: len(value) <= bound,
    "required": lambda value, names: set(names) <= set(value),
}


def _bound(schema: dict[str, Json], keyword: str, strict: int) -> tuple[float, int]:
    """Return a lower bound that can be ordered; the second figure is -1 if there is none."""
    return (schema[keyword], strict) if keyword in schema else (float("-inf"), -1)


def _negated(schema: dict[str, Json], keyword: str, strict: int) -> tuple[float, int]:
    return (-schema[keyword], strict) if keyword in schema else (float("-inf"), -1)


def _at_most(given: Any, bound: Any) -> bool:
    return given is not None and bool(given <= bound)


def _all_members(writer: dict[str, Json]) -> list[Json]:
    return [
        *writer.get("properties", {}).values(),
        *writer.get("patternProperties", {}).values(),
        writer.get("additionalProperties", True),
    ]


def _reason(keyword: str, asked: Json, given: Json) -> str:
    if keyword == "required":
        with suppress(TypeError):
            missing = sorted(set(asked) - set(given or []))
            return f"the reader requires {', '.join(map(repr, missing[:5]))}, which the writer does not"
    if given is None:
        return f"the reader's {keyword} is {_shown(asked)}, and the writer is not shown to keep it"
    return f"the reader's {keyword} is {_shown(asked)}, the writer's {_shown(given)}"


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
