"""Protobuf: a ``.proto`` file or a FileDescriptorSet, compared by field numbers and types.

The payload is the first message of the file. A reader skips fields that it does not know; what it knows, it
must read with the value that was written.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from danube_common.errors import CorruptData, InvalidInput, SchemaViolation
from danube_common.model.json_schema import first_line
from danube_common.model.schema import PayloadCheck
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.schemas.definition import Definition
from danube_common.schemas.differences import Differences
from danube_common.schemas.kinds import SchemaType
from danube_common.schemas.proto_text import WELL_KNOWN, read_proto

FILES_MAX: Final = 64
"""Files of a FileDescriptorSet."""
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""Bytes that every FileDescriptorSet has, and no text."""
_BYTE_COST: Final = 50

_F: Final = FieldDescriptor
_WIDER: Final = {
    (_F.TYPE_INT32, _F.TYPE_INT64),
    (_F.TYPE_INT32, _F.TYPE_ENUM),
    (_F.TYPE_UINT32, _F.TYPE_UINT64),
    (_F.TYPE_UINT32, _F.TYPE_INT64),
    (_F.TYPE_SINT32, _F.TYPE_SINT64),
    (_F.TYPE_BOOL, _F.TYPE_INT32),
    (_F.TYPE_BOOL, _F.TYPE_INT64),
    (_F.TYPE_BOOL, _F.TYPE_UINT32),
    (_F.TYPE_BOOL, _F.TYPE_UINT64),
    (_F.TYPE_ENUM, _F.TYPE_INT32),
    (_F.TYPE_ENUM, _F.TYPE_INT64),
    (_F.TYPE_STRING, _F.TYPE_BYTES),
}
"""Writer's and reader's type, where the reader sees the value that was written."""


class ProtobufDefinition(Definition):
    """A Protobuf schema."""

    kind = SchemaType.PROTOBUF

    def __init__(self, definition: bytes) -> None:
        files = _descriptor_set(definition) if _BINARY.search(definition) else [_from_text(definition)]
        self.canonical = b"".join(_canonical(file) for file in files)
        # Messages keep their descriptors, and descriptors their pool.
        self._pool = DescriptorPool()
        for name in sorted(
            {name for file in files for name in file.dependency if name.startswith(WELL_KNOWN)}
        ):
            if all(file.name != name for file in files):
                _add(self._pool, _well_known(name))
        for file in files:
            _add(self._pool, file)
        main = files[-1]
        if not main.message_type:
            raise InvalidInput("the Protobuf schema has no message: payloads are the first one of the file")
        name = main.message_type[0].name
        self.message: Descriptor = self._pool.FindMessageTypeByName(
            f"{main.package}.{name}" if main.package else name
        )

    def compare(self, writer: ProtobufDefinition, differences: Differences) -> None:
        """Compare the messages that can meet, field by field."""
        if self.message.name != writer.message.name:
            differences.add(
                "", f"the payload is the message {self.message.name}, the writer's {writer.message.name}"
            )
            return
        seen = set()
        pending = [(self.message, writer.message)]
        while pending:
            reader_message, writer_message = pending.pop()
            pair = (reader_message.full_name, writer_message.full_name)
            if pair in seen:
                continue
            seen.add(pair)
            pending += _compare_messages(reader_message, writer_message, differences)

    def payload_check(self) -> PayloadCheck:
        """Return the check that a payload is the first message, with no field of another wire type."""
        return _ProtobufCheck(self)


def _compare_messages(
    reader: Descriptor, writer: Descriptor, differences: Differences
) -> list[tuple[Descriptor, Descriptor]]:
    pairs = []
    for written in writer.fields:
        differences.count_comparison()
        where = f"{reader.name}.{written.name}"
        read = reader.fields_by_number.get(written.number)
        namesake = reader.fields_by_name.get(written.name)
        if namesake is not None and namesake.number != written.number:
            differences.add(where, f"its number is {namesake.number}, the writer's {written.number}")
        if read is None:
            continue
        _compare_fields(read, written, where, differences)
        if read.message_type is not None and written.message_type is not None:
            pairs.append((read.message_type, written.message_type))
    for read in reader.fields:
        given = writer.fields_by_number.get(read.number)
        if read.is_required and (given is None or not given.is_required):
            differences.add(f"{reader.name}.{read.name}", "it is required, and not required of the writer")
    _compare_oneofs(reader, writer, differences)
    return pairs


def _compare_fields(
    reader: FieldDescriptor, writer: FieldDescriptor, where: str, differences: Differences
) -> None:
    if reader.type != writer.type and (writer.type, reader.type) not in _WIDER:
        differences.add(where, f"{_type(reader)} does not read {_type(writer)}")
    if writer.is_repeated and not reader.is_repeated:
        differences.add(where, "it is not repeated, the writer's is")
    if _is_map(reader) and not _is_map(writer):
        differences.add(where, "it is a map, the writer's is not")
    if reader.enum_type is not None:
        _compare_enums(reader.enum_type, writer.enum_type, where, differences)


def _compare_enums(
    reader: EnumDescriptor, writer: EnumDescriptor | None, where: str, differences: Differences
) -> None:
    if writer is None:
        if reader.is_closed:
            differences.add(
                where, f"the enum {reader.name} of proto2 does not read other numbers than its own"
            )
        return
    for value in writer.values:
        differences.count_comparison()
        namesake = reader.values_by_name.get(value.name)
        if namesake is not None and namesake.number != value.number:
            differences.add(
                where, f"{reader.name}.{value.name} is {namesake.number}, the writer's {value.number}"
            )
        if reader.is_closed and value.number not in reader.values_by_number:
            differences.add(where, f"the enum {reader.name} of proto2 lacks {value.name} = {value.number}")


def _compare_oneofs(reader: Descriptor, writer: Descriptor, differences: Differences) -> None:
    """Fields that a writer may set together must not be in one oneof of the reader."""
    for oneof in reader.oneofs:
        written = [field for each in oneof.fields if (field := writer.fields_by_number.get(each.number))]
        groups = {
            field.containing_oneof.name if field.containing_oneof else f"={field.number}" for field in written
        }
        if len(groups) > 1:
            names = ", ".join(field.name for field in written[:5])
            differences.add(
                f"{reader.name}.{oneof.name}", f"the writer may set several fields of this oneof: {names}"
            )


class _ProtobufCheck(PayloadCheck):
    def __init__(self, definition: ProtobufDefinition) -> None:
        self._definition = definition  # it keeps the descriptors alive
        self._message = GetMessageClass(definition.message)

    def cost(self, payload: bytes) -> int:
        return len(payload) * _BYTE_COST

    def explanation_cost(self, payload: bytes) -> int:
        return self.cost(payload)

    def fits(self, payload: bytes) -> bool:
        try:
            message = parse_strict(self._message, payload)
        except CorruptData as error:
            raise SchemaViolation(f"the payload is {first_line(error)}") from None
        if not message.IsInitialized():
            raise SchemaViolation("the payload lacks a required field")
        return True


def _from_text(definition: bytes) -> FileDescriptorProto:
    try:
        text = definition.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the Protobuf schema is not UTF-8 text: {error.reason}") from None
    return read_proto(text, _well_known)


def _descriptor_set(definition: bytes) -> list[FileDescriptorProto]:
    try:
        files = list(FileDescriptorSet.FromString(definition).file)
    except DecodeError:
        files = []
    if not files:
        raise InvalidInput("the Protobuf schema is neither the text of a .proto file nor a FileDescriptorSet")
    if len(files) > FILES_MAX:
        raise InvalidInput(f"the FileDescriptorSet has more than {FILES_MAX} files")
    return files


@lru_cache(maxsize=64)
def _well_known(name: str) -> FileDescriptorProto:
    stem = name.removeprefix(WELL_KNOWN).removesuffix(".proto")
    if not name.startswith(WELL_KNOWN) or not re.fullmatch(r"[a-z_]+", stem):
        raise InvalidInput(
            f"the Protobuf schema imports {name[:80]!r}: send a FileDescriptorSet with all files"
        )
    try:
        module = importlib.import_module(f"google.protobuf.{stem}_pb2")
    except ImportError:
        raise InvalidInput(f"the Protobuf schema imports {name[:80]!r}, which is not known") from None
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def _add(pool: DescriptorPool, file: FileDescriptorProto) -> None:
    try:
        for dependency in file.dependency:
            if dependency.startswith(WELL_KNOWN):
                try:
                    pool.FindFileByName(dependency)
                except KeyError:
                    _add(pool, _well_known(dependency))
        pool.Add(file)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the Protobuf schema is not valid: {first_line(error)}") from None


def _canonical(file: FileDescriptorProto) -> bytes:
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("name")
    bare.ClearField("source_code_info")
    return bare.SerializeToString(deterministic=True)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return f"message {field.message_type.name}"
    if field.enum_type is not None:
        return f"enum {field.enum_type.name}"
    return next(
        name.removeprefix("TYPE_").lower()
        for name in dir(FieldDescriptor)
        if name.startswith("TYPE_") and getattr(FieldDescriptor, name) == field.type
    )
