"""Protobuf decoding that refuses a field whose wire type contradicts its declaration.

Python's protobuf moves such a field to the unknown ones and reads on; the official peers refuse the
message. Reading on would mean to take one generation's message for another's: their ``MsgID`` use the
same numbers for other types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from danube_common.errors import CorruptData

M = TypeVar("M", bound=Message)

LENGTH_DELIMITED = 2


def parse_strict(message_type: type[M], data: bytes) -> M:
    """Decode ``data`` as one ``message_type``.

    Fields of numbers the type does not declare are allowed, as are both encodings of repeated scalars.
    A message without unknown fields costs one look per present submessage beyond the parsing itself.

    Raises:
        CorruptData: the bytes do not decode, or a declared field came, at any depth, with another wire
            type than its declaration allows.
    """
    try:
        message = message_type.FromString(data)
    except DecodeError as error:
        raise CorruptData(f"not a {message_type.DESCRIPTOR.full_name}: {error}") from error
    _check(message)
    return message


def _check(message: Message) -> None:
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    unknown = UnknownFieldSet(message)
    if len(unknown):
        _check_unknown(descriptor, unknown)
    for name, repeated, mapped, nested in _submessages(descriptor):
        if repeated:
            held = getattr(message, name)
            values = (
                cast("Mapping[object, Message]", held).values() if mapped else cast("Iterable[Message]", held)
            )
            for value in values:
                if nested or len(UnknownFieldSet(value)):
                    _check(value)
        elif message.HasField(name):
            _check(getattr(message, name))


def _check_unknown(descriptor: Descriptor, unknown: UnknownFieldSet) -> None:
    for index in range(len(unknown)):
        stray = unknown[index]
        field = descriptor.fields_by_number.get(stray.field_number)
        if field is None:
            continue
        if stray.wire_type == LENGTH_DELIMITED and _is_map(field):
            # A map's entry that carries anything unknown is set aside as a whole: look into it.
            parse_strict(GetMessageClass(_message_type(field)), stray.data)
            continue
        raise CorruptData(
            f"{field.full_name} (field {field.number}) has wire type {stray.wire_type}: the other "
            "side speaks another version of the contract"
        )


@cache
def _submessages(descriptor: Descriptor) -> tuple[tuple[str, bool, bool, bool], ...]:
    """The fields that hold messages.

    Name, whether there may be several, whether they are a map's values, whether they hold messages.
    """
    found = []
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        mapped = _is_map(field)
        held = field.message_type.fields_by_name["value"].message_type if mapped else field.message_type
        if held is not None:
            nested = any(each.message_type is not None for each in held.fields)
            found.append((field.name, field.is_repeated, mapped, nested))
    return tuple(found)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _message_type(field: FieldDescriptor) -> Descriptor:
    message_type = field.message_type
    assert message_type is not None  # noqa: S101 - asked of map fields only
    return message_type
