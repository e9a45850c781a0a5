from __future__ import annotations

from typing import NamedTuple

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.rpc.protobuf_strict import parse_strict
from danube_proto import danube_stream_pb2 as api

FIELD = descriptor_pb2.FieldDescriptorProto
VARINT, FIXED64, LENGTH, GROUP, FIXED32 = 0, 1, 2, 3, 5
WIRE_TYPES = [VARINT, FIXED64, LENGTH, GROUP, FIXED32]


def tree_type() -> type[Message]:
    """A message of every wire type, that holds itself: singly, repeated and in a map."""
    file = descriptor_pb2.FileDescriptorProto(
        name="strict_test.proto", package="strict_test", syntax="proto3"
    )
    tree = file.message_type.add(name="Tree")
    for name, value in (("TextsEntry", None), ("TreesEntry", ".strict_test.Tree")):
        entry = tree.nested_type.add(name=name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
        kind = FIELD.TYPE_MESSAGE if value else FIELD.TYPE_STRING
        entry.field.add(name="value", number=2, type=kind, type_name=value, label=FIELD.LABEL_OPTIONAL)
    for name, number, kind, label, of in (
        ("count", 1, FIELD.TYPE_UINT64, FIELD.LABEL_OPTIONAL, None),
        ("text", 2, FIELD.TYPE_STRING, FIELD.LABEL_OPTIONAL, None),
        ("fixed", 3, FIELD.TYPE_FIXED64, FIELD.LABEL_OPTIONAL, None),
        ("ratio", 4, FIELD.TYPE_FLOAT, FIELD.LABEL_OPTIONAL, None),
        ("child", 5, FIELD.TYPE_MESSAGE, FIELD.LABEL_OPTIONAL, "Tree"),
        ("children", 6, FIELD.TYPE_MESSAGE, FIELD.LABEL_REPEATED, "Tree"),
        ("numbers", 7, FIELD.TYPE_INT64, FIELD.LABEL_REPEATED, None),
        ("texts", 8, FIELD.TYPE_MESSAGE, FIELD.LABEL_REPEATED, "Tree.TextsEntry"),
        ("trees", 9, FIELD.TYPE_MESSAGE, FIELD.LABEL_REPEATED, "Tree.TreesEntry"),
    ):
        tree.field.add(
            name=name, number=number, type=kind, label=label, type_name=of and f".strict_test.{of}"
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("strict_test.Tree"))


Tree = tree_type()

ALLOWED = {
    1: {VARINT},
    2: {LENGTH},
    3: {FIXED64},
    4: {FIXED32},
    5: {LENGTH},
    6: {LENGTH},
    7: {VARINT, LENGTH},
    8: {LENGTH},
    9: {LENGTH},
}
HOLDS_TREE = (5, 6)
UNKNOWN = (10, 11, 500)


class Encoded(NamedTuple):
    """Bytes, and whether every declared field in them has a wire type of its declaration."""

    data: bytes
    sound: bool


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def block(number: int, data: bytes) -> bytes:
    return tag(number, LENGTH) + varint(len(data)) + data


def scalar(number: int, wire_type: int) -> bytes:
    body = {
        VARINT: b"\x05",
        FIXED64: bytes(8),
        LENGTH: b"\x00",
        GROUP: tag(number, 4),
        FIXED32: bytes(4),
    }
    return tag(number, wire_type) + body[wire_type]


@st.composite
def fields(draw: st.DrawFn, trees: st.SearchStrategy[Encoded]) -> Encoded:
    number = draw(st.sampled_from([*ALLOWED, *UNKNOWN]))
    # Contradictions are kept rare, or hardly a message of some size would be sound.
    stray = draw(st.integers(0, 9)) == 9
    wire_types = sorted(ALLOWED[number]) if number in ALLOWED and not stray else WIRE_TYPES
    wire_type = draw(st.sampled_from(wire_types))
    sound = number in UNKNOWN or wire_type in ALLOWED[number]
    if wire_type != LENGTH or number not in (*HOLDS_TREE, 8, 9):
        return Encoded(scalar(number, wire_type), sound)
    if number in HOLDS_TREE:
        inner = draw(trees)
        return Encoded(block(number, inner.data), inner.sound)
    key_type, value_type = draw(
        st.sampled_from([(LENGTH, LENGTH)] * 8 + [(VARINT, LENGTH), (LENGTH, VARINT)])
    )
    value = draw(trees) if number == 9 and value_type == LENGTH else Encoded(b"", sound=True)
    entry = scalar(1, key_type) + (block(2, value.data) if value_type == LENGTH else scalar(2, value_type))
    if draw(st.booleans()):
        entry += scalar(draw(st.sampled_from(UNKNOWN)), draw(st.sampled_from([VARINT, LENGTH])))
    return Encoded(block(number, entry), (key_type, value_type) == (LENGTH, LENGTH) and value.sound)


def trees_of(inner: st.SearchStrategy[Encoded]) -> st.SearchStrategy[Encoded]:
    return st.lists(fields(inner), max_size=5).map(
        lambda parts: Encoded(b"".join(part.data for part in parts), all(part.sound for part in parts))
    )


TREES = st.recursive(st.just(Encoded(b"", sound=True)), trees_of, max_leaves=8)


@given(TREES)
def test_exactly_the_messages_with_contradicting_wire_types_are_refused(tree: Encoded) -> None:
    if tree.sound:
        assert parse_strict(Tree, tree.data) == Tree.FromString(tree.data)
    else:
        with pytest.raises(CorruptData):
            parse_strict(Tree, tree.data)


@given(st.binary(max_size=40))
def test_any_bytes_either_decode_or_are_corrupt_data(data: bytes) -> None:
    try:
        message = parse_strict(Tree, data)
    except CorruptData:
        return
    assert isinstance(message, Tree)


@pytest.mark.parametrize("number", sorted(ALLOWED))
@pytest.mark.parametrize("wire_type", WIRE_TYPES)
def test_each_declared_field_is_accepted_by_its_own_wire_types_only(number: int, wire_type: int) -> None:
    data = scalar(number, wire_type)
    if wire_type in ALLOWED[number]:
        parse_strict(Tree, data)
    else:
        with pytest.raises(CorruptData, match=f"field {number}"):
            parse_strict(Tree, data)


def test_undecodable_bytes_are_named_with_the_type() -> None:
    with pytest.raises(CorruptData, match=r"strict_test\.Tree"):
        parse_strict(Tree, block(2, b"\xff"))


def test_unknown_numbers_are_kept() -> None:
    data = scalar(10, VARINT) + block(11, b"later")
    assert parse_strict(Tree, data).SerializeToString() == data


def test_a_contradiction_deep_inside_is_found() -> None:
    data = scalar(1, LENGTH)
    for number in (5, 6, 5):
        data = block(number, data)
    with pytest.raises(CorruptData, match=r"Tree\.count"):
        parse_strict(Tree, block(9, scalar(1, LENGTH) + block(2, data)))


def test_a_contradiction_in_one_of_many_messages_that_hold_none_is_found() -> None:
    ranges = [block(2, scalar(1, VARINT) + scalar(10, VARINT))] * 3
    assert len(parse_strict(api.Ack, b"".join(ranges)).ranges) == 3
    with pytest.raises(CorruptData, match=r"Range\.last"):
        parse_strict(api.Ack, b"".join([*ranges, block(2, scalar(2, LENGTH)), *ranges]))


@pytest.mark.parametrize("number", [8, 9])
def test_a_map_entry_may_carry_an_unknown_number(number: int) -> None:
    parse_strict(Tree, block(number, scalar(1, LENGTH) + block(2, b"") + scalar(10, VARINT)))
