"""Avro: the rules of schema resolution, and the check of payloads."""

from __future__ import annotations

import io
import json
from typing import Any, Final

import fastavro

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.model.json_schema import first_line
from danube_common.model.json_text import parse_json
from danube_common.model.schema import PayloadCheck
from danube_common.model.schema_graph import UNBOUNDED
from danube_common.schemas.avro import NAMED, Node, read_avro, takes_no_bytes
from danube_common.schemas.definition import Definition
from danube_common.schemas.differences import Differences
from danube_common.schemas.kinds import SchemaType

_PROMOTIONS: Final = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
"""Writer's and reader's type."""
_PATH_CHARACTERS_MAX: Final = 120
_NODE_COST: Final = 8
"""Cost to decode one value, in the units of `PayloadCheck.cost`."""


class AvroDefinition(Definition):
    """An Avro schema. A payload is one datum in binary encoding, without a header."""

    kind = SchemaType.AVRO

    def __init__(self, definition: bytes) -> None:
        self.root = read_avro(definition)
        # Not Avro's parsing canonical form, which drops the defaults and aliases that resolution needs.
        self.canonical = json.dumps(parse_json(definition), sort_keys=True).encode()

    def compare(self, writer: AvroDefinition, differences: Differences) -> None:
        """Apply Avro's resolution to each pair of types that can meet."""
        seen: set[tuple[int, int]] = set()
        pending = [(self.root, writer.root, "")]
        while pending:
            reader_node, writer_node, path = pending.pop()
            pair = (id(reader_node), id(writer_node))
            if pair in seen:
                continue
            seen.add(pair)
            parts = len(reader_node.inner) + len(reader_node.fields) + len(writer_node.fields)
            differences.count_comparison(1 + parts)
            pending += _resolve(reader_node, writer_node, path, differences)

    def payload_check(self) -> PayloadCheck:
        """Return the check that a payload is one datum of this schema."""
        return _AvroCheck(self.root)


_Pairs = list[tuple[Node, Node, str]]


def _resolve(reader: Node, writer: Node, path: str, differences: Differences) -> _Pairs:
    """Note what keeps ``reader`` from reading ``writer`` itself; return the inner pairs that have to fit."""
    if writer.kind == "union":
        return [(reader, branch, path) for branch in writer.inner]
    if reader.kind == "union":
        branches = _matching_branches(reader, writer)
        if not branches:
            differences.add(path, f"no branch of the reader's union reads {writer}")
        return [(branch, writer, path) for branch in branches]
    if not _match(reader, writer):
        differences.add(path, f"{reader} does not read {writer}")
        return []
    if reader.decimal and writer.decimal and reader.decimal != writer.decimal:
        differences.add(path, "precision and scale of the decimal differ")
    match reader.kind:
        case "array" | "map":
            return [(reader.inner[0], writer.inner[0], f"{path}[]")]
        case "enum" if reader.default is None:
            missing = [symbol for symbol in writer.symbols if symbol not in set(reader.symbols)]
            if missing:
                differences.add(path, f"{reader} has no default and lacks the symbol {missing[0]}")
        case "fixed" if reader.size != writer.size:
            differences.add(path, f"{reader} has {reader.size} bytes, not {writer.size}")
        case "record" if writer.kind == "record":
            return _resolve_fields(reader, writer, path, differences)
        case _:
            pass
    return []


def _resolve_fields(reader: Node, writer: Node, path: str, differences: Differences) -> _Pairs:
    names = {each.name: each for each in reader.fields}
    aliases = {alias: each for each in reader.fields for alias in each.aliases}
    pairs: _Pairs = []
    read = set()
    for written in writer.fields:
        found = names.get(written.name) or aliases.get(written.name)
        if found is None:
            continue
        inner = f"{path}.{found.name}"
        if len(inner) > _PATH_CHARACTERS_MAX:
            inner = f"...{inner[3 - _PATH_CHARACTERS_MAX :]}"
        if found.name in read:
            differences.add(inner, "two fields of the writer are read as this one, by its name and an alias")
        read.add(found.name)
        pairs.append((found.type, written.type, inner))
    for each in reader.fields:
        if each.name not in read and not each.has_default:
            differences.add(f"{path}.{each.name}", f"the writer's {writer} lacks it, and it has no default")
    return pairs


def _matching_branches(reader: Node, writer: Node) -> list[Node]:
    """Return the branches that readers may choose; each of them must be able to read the writer's value.

    Implementations differ in which one they take, but all prefer the same type over a promotion and the same
    full name over an alias or another namespace.
    """
    matching = [branch for branch in reader.inner if _match(branch, writer)]
    same = [branch for branch in matching if branch.kind == writer.kind and branch.name == writer.name]
    return same or matching


def _match(reader: Node, writer: Node) -> bool:
    """Return whether two types that are no unions match by kind and name."""
    if reader.kind != writer.kind:
        return (writer.kind, reader.kind) in _PROMOTIONS
    if reader.kind not in NAMED:
        return True
    return reader.short_name == writer.short_name or writer.name in reader.aliases


class _AvroCheck(PayloadCheck):
    def __init__(self, root: Node) -> None:
        self._schema = fastavro.parse_schema(_decoded(root, set()))
        self._visits = _visits(root)

    def cost(self, payload: bytes) -> int:
        return UNBOUNDED if self._visits is None else (len(payload) + 1) * self._visits * _NODE_COST

    def explanation_cost(self, payload: bytes) -> int:
        return self.cost(payload)

    def fits(self, payload: bytes) -> bool:
        self.read(payload)
        return True

    def read(self, payload: bytes) -> Any:
        stream = io.BytesIO(payload)
        try:
            datum = fastavro.schemaless_reader(stream, self._schema, None)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the decoder raises whatever its reads of the bytes lead to
            reason = first_line(error) if str(error) else "it ends too early"
            raise SchemaViolation(f"the payload is no datum of the Avro schema: {reason}") from None
        if left := len(payload) - stream.tell():
            raise SchemaViolation(f"the payload has {left} bytes after its datum of the Avro schema")
        return datum


def read_datum(definition: bytes, payload: bytes) -> Any:
    """Return a payload as plain values. Raises InvalidInput (a recursive schema, too), SchemaViolation.

    Types take bytes of the payload, so its length bounds the work; but not for a recursive schema.
    """
    check = _AvroCheck(read_avro(definition))
    if check.cost(b"") == UNBOUNDED:
        raise InvalidInput("payloads of a recursive Avro schema are not decoded here")
    return check.read(payload)


def _decoded(node: Node, defined: set[str]) -> Any:
    """Return the schema in JSON with all that decoding needs and nothing else."""
    if node.name:
        if node.name in defined:
            return node.name
        defined.add(node.name)
    match node.kind:
        case "union":
            return [_decoded(branch, defined) for branch in node.inner]
        case "array":
            return {"type": "array", "items": _decoded(node.inner[0], defined)}
        case "map":
            return {"type": "map", "values": _decoded(node.inner[0], defined)}
        case "enum":
            return {"type": "enum", "name": node.name, "symbols": list(node.symbols)}
        case "fixed":
            return {"type": "fixed", "name": node.name, "size": node.size}
        case "record":
            fields = [{"name": each.name, "type": _decoded(each.type, defined)} for each in node.fields]
            return {"type": "record", "name": node.name, "fields": fields}
        case primitive:
            return primitive


def _visits(root: Node) -> int | None:
    """Return how many types a datum visits at most per byte; None for a recursive schema.

    Each type takes a byte of its own, or holds types that do; so it is the depth of the schema, unless fields
    take no bytes. The decoder of a recursive schema recurses as the payload says.
    """
    known: dict[int, bool] = {}
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()
    empty_fields = False

    def measure(node: Node) -> tuple[int, int] | None:
        """Return the depth of a type, and the number of types within it; each includes the type itself."""
        nonlocal empty_fields
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            return None
        open_nodes.add(id(node))
        depth, total = 0, 1
        for part in node.parts():
            inner = measure(part)
            if inner is None:
                return None
            depth, total = max(depth, inner[0]), total + inner[1]
        open_nodes.discard(id(node))
        empty_fields = empty_fields or any(takes_no_bytes(each.type, known) for each in node.fields)
        sizes[id(node)] = (depth + 1, total)
        return sizes[id(node)]

    measured = measure(root)
    return None if measured is None else measured[1 if empty_fields else 0]
