"""Protobuf: the reader of .proto files against protoc, what may follow what, and that it is really read."""

from __future__ import annotations

import contextlib
import importlib.resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.schemas.differences import Differences
from danube_common.schemas.proto_text import read_proto
from danube_common.schemas.protobuf_definition import ProtobufDefinition, _well_known

ROOT = Path(__file__).resolve().parents[4]
OWN_CONTRACTS = sorted((ROOT / "proto").glob("*.proto"))
WELL_KNOWN_FILES = [
    Path(str(importlib.resources.files("grpc_tools") / "_proto" / "google" / "protobuf" / f"{name}.proto"))
    for name in ("any", "descriptor", "duration", "empty", "struct", "timestamp", "wrappers", "type", "api")
]


def compiled(text: str, directory: Path) -> bytes:
    """Return the FileDescriptorSet that protoc makes of a file."""
    (directory / "schema.proto").write_text(text)
    out = directory / "set"
    include = importlib.resources.files("grpc_tools") / "_proto"
    status = protoc.main(
        ["protoc", f"-I{directory}", f"-I{include}", f"--descriptor_set_out={out}", "schema.proto"]
    )
    assert status == 0
    return out.read_bytes()


def without_options(file: Any) -> Any:
    """Remove what the reader drops: services, extensions and options without a meaning for payloads."""
    file.ClearField("service")
    file.ClearField("extension")
    file.ClearField("options")
    file.ClearField("public_dependency")
    pending = list(file.message_type)
    enums = list(file.enum_type)
    while pending:
        message = pending.pop()
        for name in ("extension", "extension_range"):
            message.ClearField(name)
        if not message.options.map_entry:
            message.ClearField("options")
        for field in message.field:
            field.ClearField("json_name")
            kept = {
                name: getattr(field.options, name)
                for name in ("packed", "deprecated")
                if field.options.HasField(name)
            }
            field.ClearField("options")
            for name, value in kept.items():
                setattr(field.options, name, value)
        enums += message.enum_type
        pending += message.nested_type
    for enum in enums:
        alias = enum.options.allow_alias
        enum.ClearField("options")
        if alias:
            enum.options.allow_alias = True
        for value in enum.value:
            value.ClearField("options")
    return file


@pytest.mark.parametrize("path", [*OWN_CONTRACTS, *WELL_KNOWN_FILES], ids=lambda path: path.stem)
def test_a_file_is_read_as_protoc_reads_it(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    expected = FileDescriptorSet.FromString(compiled(text, tmp_path)).file[-1]
    assert str(without_options(read_proto(text, _well_known))) == str(without_options(expected))


ODD = """
syntax = "proto2"; // a comment
/* and
   one of several lines */
package odd.names;
import "google/protobuf/timestamp.proto";
option java_package = "x"; option (my.option) = { a: 1, b { c: "}" } };
message First {
  optional int32 message = 1 [default = -0x10, deprecated = true];
  required string optional = 2 [default = "a\\"b"];
  repeated fixed64 packed = 3 [packed = true, (my.opt).x = "]"];
  optional google.protobuf.Timestamp at = 4;
  map<string, .odd.names.First.Inner> inner_by_name = 5;
  oneof choice { option (x) = 1; bool yes = 6; Inner inner = 7; }
  message Inner { optional Inner inner = 1; optional Color color = 2 [default = RED]; }
  enum Color { option allow_alias = true; RED = 0; ROT = 0 [deprecated = true]; BLUE = -1;
    reserved 5, 7 to max; reserved "X"; }
  reserved 10, 12 to 14, 536870911; reserved "old", 'older';
  extensions 100 to 199;
  extend First { optional int32 more = 100; }
}
service S { rpc Call (First) returns (stream First) { option (x) = 1; } }
extend First { optional int32 other = 101; };
"""


def test_an_odd_file_is_read_as_protoc_reads_it(tmp_path: Path) -> None:
    plain = ODD.replace('option (my.option) = { a: 1, b { c: "}" } };', "").replace(', (my.opt).x = "]"', "")
    plain = plain.replace("option (x) = 1;", "")
    expected = FileDescriptorSet.FromString(compiled(plain, tmp_path)).file[-1]
    assert str(without_options(read_proto(ODD, _well_known))) == str(without_options(expected))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no message"),
        ('syntax = "proto3";', "no message"),
        ('syntax = "proto4"; message A {}', "neither proto2 nor proto3"),
        ('edition = "2023"; message A {}', "editions"),
        ("message A {", "too early"),
        ("message A { int32 x = 1; }", "line 1: a label"),
        ('syntax = "proto3";\nmessage A {\n int32 x = 0;\n}', "line 3"),
        ('syntax = "proto3"; message A { int32 x = 1; int32 y = 1; }', "not valid"),
        ('syntax = "proto3"; message A { Missing x = 1; }', "Missing"),
        ('syntax = "proto3"; message A { required int32 x = 1; }', "required"),
        ('syntax = "proto3"; import "other.proto"; message A { }', "FileDescriptorSet"),
        ('syntax = "proto3"; import "google/protobuf/none.proto"; message A { }', "not known"),
        ('syntax = "proto3"; message A { reserved 1; int32 x = 1; }', "not valid"),
        ('syntax = "proto3"; message A { oneof o { repeated int32 x = 1; } }', "label"),
        ('syntax = "proto3"; message A { int32 x = 1 @ }', "not expected"),
        ("message A { optional group G = 1 { } }", "groups"),
        ('syntax = "proto3"; enum E { }  message A { E e = 1; }', "not valid"),
        ('syntax = "proto3"; message A {' + "message A {" * 40 + "}" * 41, "nested"),
        (
            'syntax = "proto3"; message A {' + "".join(f"int32 x{n} = {n + 1};" for n in range(10_001)) + "}",
            "10000",
        ),
        ("\xff\x00", "neither"),
        ("{{{{", "declaration"),
        ("option x = " + "{" * 100, "too deep"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        ProtobufDefinition(text.encode("latin-1"))


@given(
    st.lists(
        st.sampled_from(
            [
                *"{}[]<>;=,.-()",
                "message",
                "A",
                "int32",
                "1",
                "optional",
                "map",
                "oneof",
                "enum",
                "reserved",
                "to",
                "max",
                '"s"',
                "option",
                "x",
            ]
        ),
        max_size=25,
    )
)
def test_any_text_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(InvalidInput):
        ProtobufDefinition(" ".join(words).encode())


@pytest.mark.parametrize("at_end", ["message M { repeated", "enum E { option", "service S { option a"])
def test_a_text_that_ends_in_a_declaration_is_refused(at_end: str) -> None:
    """Found by fuzzing."""
    with pytest.raises(InvalidInput, match="ends too early"):
        ProtobufDefinition(f'syntax = "proto3"; {at_end}'.encode())


def test_a_descriptor_set_of_protoc_is_taken_with_its_imports(tmp_path: Path) -> None:
    text = 'syntax = "proto3"; import "google/protobuf/any.proto"; message A { google.protobuf.Any x = 1; }'
    from_set = ProtobufDefinition(compiled(text, tmp_path))
    assert from_set.message.full_name == ProtobufDefinition(text.encode()).message.full_name == "A"


def test_comments_and_layout_make_no_other_definition() -> None:
    one = ProtobufDefinition(b'syntax = "proto3"; message A { int32 x = 1; }')
    other = ProtobufDefinition(b'syntax = "proto3";\n// note\nmessage A {\n  int32 x = 1; /* x */\n}\n')
    assert one.canonical == other.canonical


def proto3(body: str) -> ProtobufDefinition:
    return ProtobufDefinition(f'syntax = "proto3"; message A {{ {body} }}'.encode())


def proto2(body: str) -> ProtobufDefinition:
    return ProtobufDefinition(f"message A {{ {body} }}".encode())


def differences(reader: ProtobufDefinition, writer: ProtobufDefinition) -> list[str]:
    found = Differences()
    reader.compare(writer, found)
    return found.texts


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("int32 x = 1; string y = 2;", "int32 x = 1;"),
        ("int32 x = 1;", "int32 x = 1; string y = 2;"),
        ("int32 renamed = 1;", "int32 x = 1;"),
        ("int64 x = 1;", "int32 x = 1;"),
        ("bytes x = 1;", "string x = 1;"),
        ("repeated int32 x = 1;", "int32 x = 1;"),
        ("oneof o { int32 x = 1; int32 y = 2; }", "int32 x = 1;"),
        ("oneof o { int32 x = 1; int32 y = 2; }", "oneof other { int32 x = 1; int32 y = 2; }"),
        ("map<string, int64> m = 1;", "map<string, int32> m = 1;"),
        ("enum E { Z = 0; } E x = 1;", "enum E { Z = 0; N = 1; } E x = 1;"),
        ("message B { A a = 1; } B b = 1;", "message B { A a = 1; int32 x = 2; } B b = 1;"),
    ],
)
def test_a_change_that_keeps_what_is_read_is_accepted(reader: str, writer: str) -> None:
    assert differences(proto3(reader), proto3(writer)) == []


@pytest.mark.parametrize(
    ("reader", "writer", "reason"),
    [
        ("string x = 1;", "int32 x = 1;", "string does not read int32"),
        ("int32 x = 1;", "int64 x = 1;", "does not read"),
        ("sint32 x = 1;", "int32 x = 1;", "does not read"),
        ("int32 x = 1;", "repeated int32 x = 1;", "not repeated"),
        ("int32 x = 2;", "int32 x = 1;", "number is 2"),
        ("oneof o { int32 x = 1; int32 y = 2; }", "int32 x = 1; int32 y = 2;", "several fields"),
        ("map<string, int32> m = 1;", "map<string, string> m = 1;", "does not read"),
        ("enum E { Z = 0; N = 2; } E x = 1;", "enum E { Z = 0; N = 1; } E x = 1;", "N is 2"),
        ("message B { string x = 1; } B b = 1;", "message B { int32 x = 1; } B b = 1;", "B.x"),
        ("message B { } B b = 1;", "int32 b = 1;", "message B does not read int32"),
    ],
)
def test_a_change_that_loses_what_was_written_is_refused(reader: str, writer: str, reason: str) -> None:
    found = differences(proto3(reader), proto3(writer))
    assert len(found) == 1
    assert reason in found[0]


def test_required_fields_and_closed_enums_of_proto2_count() -> None:
    assert differences(proto2("required int32 x = 1;"), proto2("optional int32 x = 1;"))
    assert not differences(proto2("optional int32 x = 1;"), proto2("required int32 x = 1;"))
    wide, narrow = "enum E { A0 = 0; A1 = 1; } optional E e = 1;", "enum E { A0 = 0; } optional E e = 1;"
    assert differences(proto2(narrow), proto2(wide))
    assert not differences(proto2(wide), proto2(narrow))


def test_another_first_message_is_refused() -> None:
    assert differences(ProtobufDefinition(b"message B {}"), ProtobufDefinition(b"message A {}"))


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "uint32": st.integers(0, (1 << 32) - 1),
    "uint64": st.integers(0, (1 << 64) - 1),
    "sint32": st.integers(-(1 << 31), (1 << 31) - 1),
    "sint64": st.integers(-(1 << 63), (1 << 63) - 1),
    "bool": st.booleans(),
    "string": st.text(max_size=3),
    "bytes": st.binary(max_size=3),
    "fixed32": st.integers(0, (1 << 32) - 1),
    "double": st.floats(allow_nan=False),
}
FIELDS = st.dictionaries(
    st.integers(1, 4), st.tuples(st.sampled_from(sorted(SCALARS)), st.booleans()), min_size=1, max_size=4
)


def described(fields: dict[int, tuple[str, bool]]) -> ProtobufDefinition:
    return proto3(
        " ".join(
            f"{'repeated' if repeated else 'optional'} {kind} f{number} = {number};"
            for number, (kind, repeated) in fields.items()
        )
    )


@given(st.data())
def test_what_an_accepted_reader_knows_it_reads_with_the_value_that_was_written(data: st.DataObject) -> None:
    writer_fields = data.draw(FIELDS)
    reader_fields = {
        **data.draw(FIELDS),
        **{n: f for n, f in writer_fields.items() if data.draw(st.booleans())},
    }
    reader, writer = described(reader_fields), described(writer_fields)
    if differences(reader, writer):
        return
    message: Any = GetMessageClass(writer.message)()
    for number, (kind, repeated) in writer_fields.items():
        values = data.draw(st.lists(SCALARS[kind], min_size=1, max_size=3))
        if repeated:
            getattr(message, f"f{number}").extend(values)
        else:
            setattr(message, f"f{number}", values[0])
    payload = message.SerializeToString()
    writer.payload_check()(payload)
    read: Message = GetMessageClass(reader.message).FromString(payload)
    for number, (_, repeated) in writer_fields.items():
        if number in reader_fields:
            wrote, found = getattr(message, f"f{number}"), getattr(read, f"f{number}")
            wrote = list(wrote) if repeated else [wrote]
            wrote = [
                each.encode() if reader_fields[number][0] == "bytes" and isinstance(each, str) else each
                for each in wrote
            ]
            assert (list(found) if reader_fields[number][1] else [found]) == wrote


EDGES: dict[str, list[Any]] = {
    **{kind: [-(1 << 31), -1, 0, 1, (1 << 31) - 1] for kind in ("int32", "sint32", "sfixed32")},
    **{kind: [-(1 << 63), -1, 0, 1, 1 << 31, (1 << 63) - 1] for kind in ("int64", "sint64", "sfixed64")},
    **{kind: [0, 1, 1 << 31, (1 << 32) - 1] for kind in ("uint32", "fixed32")},
    **{kind: [0, 1, 1 << 32, 1 << 63, (1 << 64) - 1] for kind in ("uint64", "fixed64")},
    **{kind: [0.0, -1.5, 3.0] for kind in ("float", "double")},
    "bool": [False, True],
    "string": ["", "a", "ü"],
    "bytes": [b"", b"a", b"\xff"],
}


@pytest.mark.parametrize("written_type", EDGES)
def test_every_type_that_may_read_another_reads_its_edge_values(written_type: str) -> None:
    writer = proto3(f"repeated {written_type} x = 1;")
    for read_type in EDGES:
        reader = proto3(f"repeated {read_type} x = 1;")
        if differences(reader, writer):
            continue
        message: Any = GetMessageClass(writer.message)(x=EDGES[written_type])
        read: Any = GetMessageClass(reader.message).FromString(message.SerializeToString())
        expected = [
            each.encode() if read_type == "bytes" and isinstance(each, str) else each for each in message.x
        ]
        assert list(read.x) == expected, read_type


def test_a_payload_of_another_type_or_cut_off_is_refused() -> None:
    check = proto3("string x = 1; A inner = 2;").payload_check()
    check(b"")
    check(b"\x0a\x01a")
    check(b"\x18\x07")  # a field that the schema does not know
    for wrong in (b"\x0a\x05a", b"\x08\x01", b"\x12\x02\x08\x01", b"{}", b"\x0a\x01\xff"):
        with pytest.raises(SchemaViolation, match="payload"):
            check(wrong)
    with pytest.raises(SchemaViolation, match="required"):
        proto2("required int32 x = 1;").payload_check()(b"")


def test_the_set_of_files_is_bounded() -> None:
    many = FileDescriptorSet(file=[FileDescriptorProto(name=f"{n}.proto") for n in range(65)])
    with pytest.raises(InvalidInput, match="64 files"):
        ProtobufDefinition(many.SerializeToString() + b"\x0a\x00")
