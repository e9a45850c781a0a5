"""Avro: what is valid, what may follow what, and that accepted changes really read old data."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import InvalidInput, LimitExceeded, SchemaViolation
from danube_common.schemas.avro import takes_no_bytes
from danube_common.schemas.avro_definition import AvroDefinition
from danube_common.schemas.differences import DIFFERENCES_MAX, Differences

Schema = Any


def definition(schema: Schema) -> AvroDefinition:
    return AvroDefinition(json.dumps(schema).encode())


def differences(reader: Schema, writer: Schema) -> list[str]:
    found = Differences()
    definition(reader).compare(definition(writer), found)
    return found.texts


def record(*fields: Schema, name: str = "R", **more: Schema) -> Schema:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Schema, **more: Schema) -> Schema:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Schema) -> Schema:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def fixed(size: int) -> Schema:
    return {"type": "fixed", "name": "F", "size": size}


def decimal(precision: int, scale: int) -> Schema:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def tree(*more: Schema) -> Schema:
    return record(field("children", {"type": "array", "items": "R"}), *more)


LONG_LIST = {
    "type": "record",
    "name": "LongList",
    "aliases": ["LinkedLongs"],
    "fields": [{"name": "value", "type": "long"}, {"name": "next", "type": ["null", "LongList"]}],
}

# The cases of "Schema Resolution" in Avro's specification: reader, writer.
READ = [
    ("long", "int"),
    ("float", "int"),
    ("double", "int"),
    ("float", "long"),
    ("double", "long"),
    ("double", "float"),
    ("bytes", "string"),
    ("string", "bytes"),
    ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
    ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}),
    (enum("a", "b"), enum("a")),
    (enum("a", default="a"), enum("a", "b")),
    (fixed(4), fixed(4)),
    (record(field("x", "int"), field("y", "int")), record(field("y", "int"), field("x", "int"))),
    (record(field("x", "int")), record(field("x", "int"), field("y", "int"))),
    (record(field("x", "int"), field("y", "int", default=0)), record(field("x", "int"))),
    (record(field("x", "int", aliases=["old"])), record(field("old", "int"))),
    (record(name="a.R"), record(name="b.R")),
    (record(name="New", aliases=["R"]), record(name="R")),
    (["null", "int"], "int"),
    (["null", "long"], "int"),
    (["null", "int"], ["int"]),
    ("long", ["int", "long"]),
    (decimal(4, 2), decimal(4, 2)),
    (tree(field("x", "int", default=1)), tree()),
    ([record(field("x", "int"), name="a.R"), record(name="b.R")],) * 2,
    # The specification's own examples: a linked list, renamed fields and types, a fingerprint.
    (LONG_LIST, LONG_LIST),
    (LONG_LIST, json.loads(json.dumps(LONG_LIST | {"aliases": []}).replace("LongList", "LinkedLongs"))),
    (record(field("number", "long", aliases=["value"])), record(field("value", "long"))),
    ({"type": "fixed", "name": "a.md5", "size": 16}, {"type": "fixed", "name": "b.md5", "size": 16}),
    ({**fixed(16), "aliases": ["md5"]}, {"type": "fixed", "name": "md5", "size": 16}),
    ({**enum("SPADES"), "name": "a.Suit"}, {**enum("SPADES"), "name": "b.Suit"}),
    (["int", "string"], ["string", "int"]),
    (["null", "double"], ["null", "float", "int"]),
]
UNREAD = [
    ("int", "long"),
    ("float", "double"),
    ("string", "int"),
    ("boolean", "int"),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}),
    ({"type": "map", "values": "int"}, {"type": "array", "items": "int"}),
    (enum("a"), enum("a", "b")),
    (fixed(4), fixed(8)),
    (record(field("x", "int"), field("y", "int")), record(field("x", "int"))),
    (record(field("x", "int")), record(field("x", "string"))),
    (record(name="New"), record(name="R")),
    ("int", ["int", "string"]),
    (["int", "string"], "boolean"),
    (decimal(4, 2), decimal(4, 3)),
    (tree(field("x", "int")), tree()),
    (record(field("x", "int", aliases=["y"])), record(field("x", "int"), field("y", "int"))),
    ({"type": "fixed", "name": "sha", "size": 16}, {"type": "fixed", "name": "md5", "size": 16}),
    ({**enum("SPADES"), "name": "Color"}, {**enum("SPADES"), "name": "Suit"}),
    (["int"], ["int", "string"]),
    (["null", "float"], ["null", "double"]),
    ("long", "float"),
    ("boolean", "string"),
    ("null", "int"),
]


@pytest.mark.parametrize(("reader", "writer"), READ)
def test_a_reader_reads_what_resolution_allows(reader: Schema, writer: Schema) -> None:
    assert differences(reader, writer) == []


@pytest.mark.parametrize(("reader", "writer"), UNREAD)
def test_a_reader_is_refused_what_resolution_does_not_allow(reader: Schema, writer: Schema) -> None:
    assert differences(reader, writer)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("integer", "not defined"),
        ({"type": "record", "name": "R"}, "no list of fields"),
        (record(field("x", "int"), field("x", "int")), "twice"),
        (record(field("x", "int", default="one")), "default"),
        (record(field("x", ["null", "int"], default="one")), "default"),
        (record(field("x", "Later"), field("y", record(name="Later"))), "not defined before"),
        (record(field("a-b", "int")), "valid name"),
        (["int", "int"], "twice"),
        ([["int"]], "within a union"),
        ([], "no branch"),
        (enum("a", "a"), "twice"),
        (enum("a", default="b"), "default"),
        (fixed(-1), "size"),
        ({"type": "array"}, "items"),
        (3, "no type"),
        ({"type": "array", "items": "null"}, "no bytes"),
        (record(field("x", {"type": "array", "items": record(field("y", fixed(0)), name="I")})), "no bytes"),
        (record(field("x", record())), "taken"),
        (["int"] + [record(name=f"R{n}") for n in range(10_001)], "more than"),
    ],
)
def test_an_invalid_schema_is_refused_with_the_reason(schema: Schema, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        definition(schema)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 1000, b'{"type":' * 200 + b'"int"' + b"}" * 200])
def test_a_text_that_is_no_json_or_too_deep_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        AvroDefinition(text)


def test_a_definition_in_another_layout_is_the_same() -> None:
    schema = record(field("x", "int", doc="an x"))
    spaced = AvroDefinition(json.dumps(schema, indent=4).encode())
    assert definition(schema).canonical == spaced.canonical


def test_a_default_and_an_alias_make_another_definition() -> None:
    plain = definition(record(field("x", "int")))
    assert plain.canonical != definition(record(field("x", "int", default=1))).canonical
    assert plain.canonical != definition(record(field("x", "int", aliases=["y"]))).canonical


def test_differences_are_bounded_in_number_and_length() -> None:
    wide = record(*(field(f"f{n}" + "x" * 400, "int") for n in range(500)))
    found = differences(wide, record())
    assert len(found) == DIFFERENCES_MAX + 1
    assert found[-1] == "and 480 more"
    assert all(len(text) <= 300 for text in found)


def test_schemas_that_are_too_large_to_compare_are_refused() -> None:
    # Each record refers to all before it, so that many pairs of them can meet.
    names = [f"R{n}" for n in range(100)]
    many: Schema = [record(field("x", [*names[:n], "null"]), name=name) for n, name in enumerate(names)]
    reader, writer, found = definition(many), definition(many), Differences()

    def compare_often() -> None:
        for _ in range(1000):
            reader.compare(writer, found)

    with pytest.raises(LimitExceeded, match="too large"):
        compare_often()


# Properties

PRIMITIVES = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 53), 1 << 53),
    "float": st.integers(-1000, 1000).map(float),
    "double": st.floats(allow_nan=False),
    # Bytes are read as a string only if they are UTF-8, as the specification has it.
    "bytes": st.text(max_size=3).map(str.encode),
    "string": st.text(max_size=3),
}
DEFAULTS: dict[str, Any] = {"null": None, "boolean": True, "int": 1, "long": 2, "float": 1.5, "double": 2.5}
DEFAULTS |= {"bytes": "b", "string": "s"}
NAMES = ["a", "b", "c"]


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2, taken: list[str] | None = None, *, union: bool = True) -> Schema:
    """Small schemas of few names, so that two of them often have something in common."""
    taken = [] if taken is None else taken
    kinds = ["primitive", "primitive"]
    if depth:
        kinds += ["array", "map", *(["union"] if union else [])]
        kinds += [kind for kind in ("record", "enum", "fixed") if kind not in taken]
    kind = draw(st.sampled_from(kinds))
    if kind == "primitive":
        return draw(st.sampled_from(sorted(PRIMITIVES)))
    if kind in ("record", "enum", "fixed"):
        taken.append(kind)
    if kind == "array":
        items = draw(schemas(depth - 1, taken))
        return {"type": "array", "items": "int" if takes_no_bytes(definition(items).root, {}) else items}
    if kind == "map":
        return {"type": "map", "values": draw(schemas(depth - 1, taken))}
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        default = {"default": symbols[0]} if draw(st.booleans()) else {}
        return enum(*symbols, **default)
    if kind == "fixed":
        return fixed(draw(st.integers(0, 1)))
    if kind == "union":
        branches = draw(st.lists(schemas(depth - 1, taken, union=False), min_size=1, max_size=3))
        kinds_seen: dict[str, Schema] = {
            branch if isinstance(branch, str) else branch["type"]: branch for branch in branches
        }
        return list(kinds_seen.values())
    names = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    fields = []
    for name in names:
        inner = draw(schemas(depth - 1, taken))
        given = {"default": DEFAULTS[inner]} if isinstance(inner, str) and draw(st.booleans()) else {}
        fields.append(field(name, inner, **given))
    return record(*fields)


def values(schema: Schema) -> st.SearchStrategy[Any]:
    if isinstance(schema, str):
        return PRIMITIVES[schema]
    if isinstance(schema, list):
        # A pair chooses the branch; fastavro takes it for records and primitives alike.
        return st.one_of(*(values(branch) for branch in schema))
    match schema["type"]:
        case "array":
            return st.lists(values(schema["items"]), max_size=2)
        case "map":
            return st.dictionaries(st.sampled_from(NAMES), values(schema["values"]), max_size=2)
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case _:
            return st.fixed_dictionaries({each["name"]: values(each["type"]) for each in schema["fields"]})


def written(schema: Schema, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


@settings(max_examples=200)
@given(st.data())
def test_accepted_readers_read_what_was_written(data: st.DataObject) -> None:
    writer = data.draw(schemas())
    reader = data.draw(st.one_of(schemas(), evolved(writer)))
    if differences(reader, writer):
        return
    payload = written(writer, data.draw(values(writer)))
    fastavro.schemaless_reader(io.BytesIO(payload), writer, reader)


EDGES: dict[str, list[Any]] = {
    "null": [None], "boolean": [False, True], "int": [-(1 << 31), 0, (1 << 31) - 1],
    "long": [-(1 << 63), 7, 1 << 53], "float": [0.0, -1.5], "double": [0.0, 1e300],
    "bytes": [b"", b"a"], "string": ["", "ü"],
}  # fmt: skip


@pytest.mark.parametrize("written_type", EDGES)
@pytest.mark.parametrize("wrap", [
    lambda kind: kind,
    lambda kind: {"type": "array", "items": kind},
    lambda kind: {"type": "map", "values": kind},
    lambda kind: record(field("x", kind)),
    lambda kind: [kind, enum("a")],
])  # fmt: skip
def test_every_primitive_that_may_read_another_reads_its_edge_values(written_type: str, wrap: Any) -> None:
    writer = wrap(written_type)
    if isinstance(writer, dict) and writer["type"] == "array" and written_type == "null":
        return
    for read_type in [*EDGES, ["null", "double"], ["string", "long"]]:
        if isinstance(read_type, list) and isinstance(writer, list):
            continue
        reader = wrap(read_type)
        if read_type == "null" and isinstance(reader, dict) and reader["type"] == "array":
            continue
        if differences(reader, writer):
            continue
        for value in EDGES[written_type]:
            given = {"array": [value], "map": {"k": value}, "record": {"x": value}}.get(
                writer["type"] if isinstance(writer, dict) else "", value
            )
            fastavro.schemaless_reader(io.BytesIO(written(writer, given)), writer, reader)


@st.composite
def evolved(draw: st.DrawFn, schema: Schema) -> Schema:
    """A schema with a few changes, of which many are allowed."""
    if isinstance(schema, str):
        wider = {"int": ["long", "double"], "long": ["double"], "float": ["double"], "string": ["bytes"]}
        return draw(
            st.sampled_from(
                [schema, ["null", schema] if schema != "null" else schema, *wider.get(schema, [])]
            )
        )
    if isinstance(schema, list):
        return [*schema, "boolean"] if "boolean" not in schema and draw(st.booleans()) else schema
    match schema["type"]:
        case "array":
            items = draw(evolved(schema["items"]))
            return schema if takes_no_bytes(definition(items).root, {}) else {**schema, "items": items}
        case "map":
            return {**schema, "values": draw(evolved(schema["values"]))}
        case "record":
            fields = [
                {**each, "type": draw(evolved(each["type"]))}
                for each in schema["fields"]
                if draw(st.booleans())
            ]
            fields = [{name: part for name, part in each.items() if name != "default"} for each in fields]
            new = {"default": 3} if draw(st.booleans()) else {}
            return {**schema, "fields": [*fields, field("new", "int", **new)]}
        case _:
            return schema


@given(st.data())
def test_a_schema_reads_its_own_data_and_its_payloads_are_accepted(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    assert differences(schema, schema) == []
    definition(schema).payload_check()(written(schema, data.draw(values(schema))))


@given(schemas(), st.binary(max_size=20))
def test_any_payload_fits_or_is_refused(schema: Schema, payload: bytes) -> None:
    check = definition(schema).payload_check()
    if check.cost(payload) > 200_000:
        return
    with contextlib.suppress(SchemaViolation):
        check(payload)


def test_a_payload_that_is_cut_off_or_too_long_is_refused() -> None:
    schema = record(field("x", "string"), field("y", "long"))
    payload = written(schema, {"x": "text", "y": 7})
    check = definition(schema).payload_check()
    check(payload)
    for wrong in (payload[:-1], payload + b"\x00", b"", b"\x01"):
        with pytest.raises(SchemaViolation, match="Avro"):
            check(wrong)


def test_a_payload_of_a_recursive_schema_is_not_cheap_to_check() -> None:
    assert definition(tree()).payload_check().cost(b"\x00") > 200_000


def test_the_cost_of_a_payload_counts_each_visit_of_a_type() -> None:
    wide = record(*(field(f"n{number}", "null") for number in range(50)), field("x", "int"))
    items = definition({"type": "array", "items": wide}).payload_check()
    flat = definition({"type": "array", "items": "int"}).payload_check()
    # A byte is an item: of 52 types, or of one.
    assert items.cost(b"x" * 1000) >= 1000 * 52
    assert flat.cost(b"x" * 1000) >= 1000
    assert flat.cost(b"x" * 10_000) <= 200_000
