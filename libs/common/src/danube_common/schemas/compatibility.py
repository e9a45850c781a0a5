"""Whether a new version of a subject may be added: one rule for all types of schemas."""

from __future__ import annotations

from collections.abc import Sequence

from danube_common.schemas.avro_definition import AvroDefinition
from danube_common.schemas.definition import Definition
from danube_common.schemas.differences import Differences
from danube_common.schemas.json_definition import JsonDefinition
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.schemas.plain import PlainDefinition
from danube_common.schemas.protobuf_definition import ProtobufDefinition


def parse_definition(kind: SchemaType, definition: bytes) -> Definition:
    """Parse a definition. Raises InvalidInput, which says what is wrong with it."""
    match kind:
        case SchemaType.AVRO:
            return AvroDefinition(definition)
        case SchemaType.JSON_SCHEMA:
            return JsonDefinition(definition)
        case SchemaType.PROTOBUF:
            return ProtobufDefinition(definition)
        case _:
            return PlainDefinition(kind, definition)


def incompatibilities(
    mode: CompatibilityMode, new: Definition, versions: Sequence[tuple[int, Definition]]
) -> list[str]:
    """Return why a new definition may not follow the versions; nothing if it may.

    Args:
        mode: what has to be kept.
        new: the definition of the new version.
        versions: number and definition of the present versions, in ascending order.

    Raises:
        LimitExceeded: the definitions are too large to compare.
    """
    differences = Differences()
    for number, old in versions if mode.transitive else versions[-1:]:
        if mode.backward:
            differences.about = f"the new schema cannot read data of version {number}"
            _compare(new, old, differences)
        if mode.forward:
            differences.about = f"version {number} cannot read data of the new schema"
            _compare(old, new, differences)
    return differences.texts


def _compare(reader: Definition, writer: Definition, differences: Differences) -> None:
    if reader.kind is not writer.kind:
        differences.add("", f"{reader.kind} does not read {writer.kind}")
    else:
        reader.compare(writer, differences)
