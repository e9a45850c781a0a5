"""Avro schemas: parsed strictly into nodes, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from danube_common.errors import InvalidInput
from danube_common.model.json_text import JsonTextError, parse_json

NODES_MAX: Final = 10_000
"""Types and fields within one Avro schema."""
PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED: Final = frozenset({"record", "enum", "fixed"})

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_SHOWN_CHARACTERS: Final = 60
_FIXED_BYTES_MAX: Final = 1 << 31
_INTEGER_BITS: Final = {"int": 31, "long": 63}


@dataclass(slots=True)
class Field:
    """A field of a record."""

    name: str
    type: Node
    has_default: bool
    default: Any
    aliases: frozenset[str]


@dataclass(slots=True, eq=False)
class Node:
    """One type. A named type is one node, wherever it is referred to.

    Attributes:
        kind: the type's name in Avro's specification, "union" for unions.
        name: full name of a named type.
        aliases: full names.
        fields: of a record.
        symbols: of an enum.
        default: symbol of an enum.
        size: bytes of a fixed.
        inner: items of an array, values of a map (one node), or branches of a union.
        decimal: precision and scale, of the logical type decimal.
    """

    kind: str
    name: str = ""
    aliases: frozenset[str] = frozenset()
    fields: list[Field] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    default: str | None = None
    size: int = 0
    inner: list[Node] = field(default_factory=list)
    decimal: tuple[int, int] | None = None

    @property
    def short_name(self) -> str:
        """The name without namespace."""
        return self.name.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind

    def parts(self) -> Iterator[Node]:
        """Yield the types within this one."""
        yield from self.inner
        for each in self.fields:
            yield each.type


def read_avro(definition: bytes) -> Node:
    """Parse a definition. Raises InvalidInput, which names what is wrong or the bound it is over."""
    try:
        parsed = parse_json(definition)
    except JsonTextError as error:
        raise InvalidInput(f"the Avro schema is {error}") from None
    parser = _Parser()
    root = parser.type(parsed, "")
    for kind, default, where in parser.defaults:
        if not _is_value(kind, default):
            raise _invalid(f"the default of {where} is no {kind}")
    known: dict[int, bool] = {}
    if any(takes_no_bytes(array.inner[0], known) for array in parser.arrays):
        raise _invalid("an array has items that take no bytes: a few bytes would stand for endless items")
    return root


def takes_no_bytes(node: Node, known: dict[int, bool]) -> bool:
    """Return whether all values of a type are encoded in no bytes; ``known`` keeps what was found by id."""
    if id(node) not in known:
        known[id(node)] = False  # of a record directly within itself, which has no value
        known[id(node)] = (
            node.kind == "null"
            or (node.kind == "fixed" and node.size == 0)
            or (node.kind == "record" and all(takes_no_bytes(each.type, known) for each in node.fields))
        )
    return known[id(node)]


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, Node] = {}
        self._nodes = 0
        self.defaults: list[tuple[Node, Any, str]] = []
        self.arrays: list[Node] = []

    def type(self, given: Any, namespace: str) -> Node:
        self._count()
        if isinstance(given, str):
            return self._reference(given, namespace)
        if isinstance(given, list):
            return self._union(given, namespace)
        if not isinstance(given, dict) or "type" not in given:
            raise _invalid(f"{_shown(given)} is no type: a name, an object with 'type' or a list is expected")
        kind = given["type"]
        if not isinstance(kind, str):
            return self.type(kind, namespace)
        if kind in NAMED or kind == "error":
            return self._named_type(kind, given, namespace)
        if kind in ("array", "map"):
            of = "items" if kind == "array" else "values"
            if of not in given:
                raise _invalid(f"{_shown(given)} has no '{of}'")
            node = Node(kind, inner=[self.type(given[of], namespace)])
            if kind == "array":
                self.arrays.append(node)
            return node
        node = self._reference(kind, namespace)
        return Node("bytes", decimal=_decimal(given)) if kind == "bytes" else node

    def _reference(self, name: str, namespace: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        for full in (_full(name, namespace), name):
            if full in self._named:
                return self._named[full]
        raise _invalid(f"type {_shown(name)} is not defined before it is used")

    def _union(self, given: list[Any], namespace: str) -> Node:
        branches = [self.type(each, namespace) for each in given]
        if not branches:
            raise _invalid("a union has no branch")
        if any(branch.kind == "union" for branch in branches):
            raise _invalid("a union is directly within a union")
        kinds = [branch.name or branch.kind for branch in branches]
        if len(set(kinds)) < len(kinds):
            raise _invalid(f"the union {_shown(kinds)} has a type twice")
        return Node("union", inner=branches)

    def _named_type(self, kind: str, given: dict[str, Any], namespace: str) -> Node:
        given_namespace = given.get("namespace", namespace)
        if not isinstance(given_namespace, str) or (given_namespace and not _is_full(given_namespace)):
            raise _invalid(f"{_shown(given_namespace)} is no namespace")
        name = given.get("name")
        if not isinstance(name, str) or not _is_full(name):
            raise _invalid(f"a {kind} has the name {_shown(name)}: letters, digits and '_' are allowed")
        full = _full(name, given_namespace)
        if full in self._named or name in PRIMITIVES:
            raise _invalid(f"the name {_shown(full)} is taken")
        own_namespace = full.rpartition(".")[0]
        node = self._named[full] = Node(
            "record" if kind == "error" else kind, full, _aliases(given, own_namespace, f"{kind} {full}")
        )
        if node.kind == "record":
            self._fields(node, given.get("fields"), own_namespace)
        elif kind == "enum":
            _enum(node, given)
        else:
            size = given.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _FIXED_BYTES_MAX:
                raise _invalid(f"fixed {full} has the size {_shown(size)}")
            node.size, node.decimal = size, _decimal(given)
        return node

    def _fields(self, node: Node, given: Any, namespace: str) -> None:
        if not isinstance(given, list):
            raise _invalid(f"record {node.name} has no list of fields")
        names = set()
        for each in given:
            name = each.get("name") if isinstance(each, dict) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name) or "type" not in each:
                raise _invalid(
                    f"record {node.name} has a field without a valid name and type: {_shown(each)}"
                )
            if name in names:
                raise _invalid(f"record {node.name} has the field {name} twice")
            names.add(name)
            where = f"field {node.name}.{name}"
            found = Field(
                name, self.type(each["type"], namespace), "default" in each, each.get("default"),
                _aliases(each, "", where),
            )  # fmt: skip
            node.fields.append(found)
            if found.has_default:
                self.defaults.append((found.type, found.default, where))

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _invalid(f"it has more than {NODES_MAX} types")


def _enum(node: Node, given: dict[str, Any]) -> None:
    symbols = given.get("symbols")
    if not isinstance(symbols, list) or not all(isinstance(s, str) and _NAME.fullmatch(s) for s in symbols):
        raise _invalid(f"enum {node.name} has no list of symbols of letters, digits and '_'")
    if len(set(symbols)) < len(symbols) or not symbols:
        raise _invalid(f"enum {node.name} has no symbol, or one twice")
    node.symbols, node.default = tuple(symbols), given.get("default")
    if node.default is not None and node.default not in symbols:
        raise _invalid(f"the default of enum {node.name} is none of its symbols")


def _aliases(given: dict[str, Any], namespace: str, where: str) -> frozenset[str]:
    aliases = given.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(a, str) and _is_full(a) for a in aliases):
        raise _invalid(f"the aliases of {where} are no list of names")
    return frozenset(_full(alias, namespace) for alias in aliases)


def _decimal(given: dict[str, Any]) -> tuple[int, int] | None:
    """Return precision and scale of a valid decimal; an invalid logical type is ignored, as Avro says."""
    precision, scale = given.get("precision"), given.get("scale", 0)
    if given.get("logicalType") != "decimal" or not isinstance(precision, int) or not isinstance(scale, int):
        return None
    return (precision, scale) if 0 <= scale <= precision and precision > 0 else None


def _is_value(node: Node, default: Any) -> bool:
    """Return whether a default is a value of its type. Defaults are JSON, bytes are text up to U+00FF."""
    match node.kind:
        case "null":
            return default is None
        case "boolean":
            return isinstance(default, bool)
        case "int" | "long":
            limit = 1 << _INTEGER_BITS[node.kind]
            return isinstance(default, int) and not isinstance(default, bool) and -limit <= default < limit
        case "float" | "double":
            return isinstance(default, int | float) and not isinstance(default, bool)
        case "string":
            return isinstance(default, str)
        case "bytes":
            return isinstance(default, str) and all(ord(char) < 256 for char in default)
        case "fixed":
            return (
                isinstance(default, str) and len(default) == node.size and all(ord(c) < 256 for c in default)
            )
        case "enum":
            return isinstance(default, str) and default in node.symbols
        case "array":
            return isinstance(default, list) and all(_is_value(node.inner[0], item) for item in default)
        case "map":
            return isinstance(default, dict) and all(_is_value(node.inner[0], v) for v in default.values())
        case "union":
            return any(_is_value(branch, default) for branch in node.inner)
        case _:
            return isinstance(default, dict) and all(
                _is_value(each.type, default[each.name]) if each.name in default else each.has_default
                for each in node.fields
            )


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _is_full(name: str) -> bool:
    return _FULL_NAME.fullmatch(name) is not None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _invalid(why: str) -> InvalidInput:
    return InvalidInput(f"the Avro schema is not valid: {why}")
