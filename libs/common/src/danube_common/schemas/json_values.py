"""What values a JSON schema allows, estimated from above: their types, and all of them if they are few."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

TYPES: Final = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})
"""The types of values; "number" is both of integer and fraction."""
REFERENCES_MAX: Final = 16
"""References and alternatives within each other that are followed for one value."""
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})

Json = Any


class JsonDocument:
    """The definition that a schema belongs to: its dialect, and what its references point to.

    Attributes:
        dialect: the draft, empty if it is none of those whose rules are known.
        siblings: whether keywords beside ``$ref`` count, as they do since the draft of 2019.
        prefix_items: whether the dialect has ``prefixItems``.
    """

    def __init__(self, root: Json, count_comparison: Callable[[], None]) -> None:
        self.root = root
        self._count = count_comparison
        self._digests: dict[int, tuple[bytes, bool]] = {}
        self._frozen = False
        self._digest(root)
        self._frozen = True  # the ids of other values may be used again
        dialect = root.get("$schema", "2020-12") if isinstance(root, dict) else "2020-12"
        self.dialect = next(
            (name for name in ("2020-12", "2019-09", "draft-07", "draft-06") if name in str(dialect)), ""
        )
        self.siblings = self.dialect in ("2020-12", "2019-09")
        self.prefix_items = self.dialect == "2020-12"
        inner = [part for part in _parts(root) if part is not root]
        self._resolvable = not any(isinstance(part.get("$id"), str) for part in inner)
        if any(isinstance(part.get("$schema"), str) for part in inner):
            self.dialect = ""  # a part may have another dialect

    def target(self, reference: Json) -> Json:
        """Return the schema that a reference within the definition points to, or None if it is unknown."""
        if not self._resolvable or not isinstance(reference, str) or not reference.startswith("#"):
            return None
        found = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        if reference != "#" and not reference.startswith("#/"):
            return None  # an anchor
        return found if isinstance(found, dict | bool) else None

    def conjuncts(self, schema: Json, depth: int = 0) -> Iterator[dict[str, Json]]:
        """Yield schemas each of which allows all that ``schema`` allows, by its own keywords."""
        self._count()
        if not isinstance(schema, dict) or depth > REFERENCES_MAX:
            return
        if "$ref" not in schema or self.siblings:
            yield schema
            for member in schema.get("allOf", []):
                yield from self.conjuncts(member, depth + 1)
        if "$ref" in schema:
            yield from self.conjuncts(self.target(schema["$ref"]), depth + 1)

    def digest(self, value: Json) -> bytes:
        """Return bytes that are the same for values that are equal as JSON, in every document."""
        return self._digest(value)[0]

    def refers(self, schema: Json) -> bool:
        """Return whether the schema holds a reference, so that its meaning depends on where it stands."""
        return self._digest(schema)[1]

    def _digest(self, value: Json) -> tuple[bytes, bool]:
        """Return a value's digest and whether it holds a reference; of parts of the document from memory."""
        if not isinstance(value, dict | list):
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            return hashlib.sha256(json.dumps(value).encode()).digest(), False
        known = self._digests.get(id(value))
        if known is not None:
            return known
        if isinstance(value, dict):
            inner = [(json.dumps(name).encode(), *self._digest(value[name])) for name in sorted(value)]
            kind, refers = b"{", not _REFERENCES.isdisjoint(value)
        else:
            inner = [(b"", *self._digest(each)) for each in value]
            kind, refers = b"[", False
        found = (
            hashlib.sha256(kind + b"".join(name + b":" + digest for name, digest, _ in inner)).digest(),
            refers or any(refer for _, _, refer in inner),
        )
        if not self._frozen:
            self._digests[id(value)] = found
        return found

    def types(self, schema: Json, depth: int = 0) -> frozenset[str]:
        """Return the types that values of the schema may have."""
        if schema is False:
            return frozenset()
        if depth > REFERENCES_MAX:
            return TYPES
        found = TYPES
        for each in self.conjuncts(schema):
            found &= _stated_types(each)
            for keyword in ("anyOf", "oneOf"):
                if keyword in each:
                    found &= frozenset().union(*(self.types(one, depth + 1) for one in each[keyword]))
        return found

    def values(self, schema: Json) -> list[Json] | None:
        """Return values of which each value of the schema is one; None if they are not few."""
        for each in self.conjuncts(schema):
            if "const" in each:
                return [each["const"]]
            if "enum" in each:
                return list(each["enum"])
        types = self.types(schema)
        if types <= {"null", "boolean"}:
            return ([None] if "null" in types else []) + ([False, True] if "boolean" in types else [])
        return None

    def member(self, schema: dict[str, Json], name: str) -> Json:
        """Return a schema for the values of a member, by the keywords of ``schema`` alone."""
        if name in schema.get("properties", {}):
            return schema["properties"][name]
        return True if "patternProperties" in schema else schema.get("additionalProperties", True)

    def items(self, schema: dict[str, Json]) -> tuple[list[Json], Json]:
        """Return the schemas of the first items, and that of all further ones."""
        if self.prefix_items:
            return schema.get("prefixItems", []), schema.get("items", True)
        items = schema.get("items", True)
        return (items, schema.get("additionalItems", True)) if isinstance(items, list) else ([], items)


def disjoint(one: Json, other: Json, first: JsonDocument, second: JsonDocument, depth: int = 0) -> bool:
    """Return whether it is shown that no value fits both ``one`` of ``first`` and ``other`` of ``second``."""
    common = first.types(one) & second.types(other)
    if not common:
        return True
    values, others = first.values(one), second.values(other)
    if values is not None and others is not None:
        return {first.digest(value) for value in values}.isdisjoint(second.digest(each) for each in others)
    if common != {"object"} or depth > REFERENCES_MAX:
        return False
    parts, other_parts = list(first.conjuncts(one)), list(second.conjuncts(other))
    shared = _required(parts) & _required(other_parts)
    return any(
        disjoint(first.member(part, name), second.member(each, name), first, second, depth + 1)
        for name in sorted(shared)
        for part in parts
        for each in other_parts
    )


def type_of(value: Json) -> str:
    """Return the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "fraction"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def named_types(names: Json) -> frozenset[str]:
    """Return the types of a ``type`` keyword."""
    listed = set(names if isinstance(names, list) else [names])
    return frozenset(listed - {"number"} | ({"integer", "fraction"} if "number" in listed else set()))


def _stated_types(schema: dict[str, Json]) -> frozenset[str]:
    found = named_types(schema["type"]) if "type" in schema else TYPES
    if "const" in schema:
        found &= {type_of(schema["const"])}
    if "enum" in schema:
        found &= {type_of(value) for value in schema["enum"]}
    return found


def _required(parts: list[dict[str, Json]]) -> set[str]:
    return {name for part in parts for name in part.get("required", [])}


def _parts(value: Json) -> Iterator[dict[str, Json]]:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            yield each
            pending += each.values()
        elif isinstance(each, list):
            pending += each
