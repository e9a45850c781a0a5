"""Schemas: the type of a topic's payloads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from danube_proto import danube_api_pb2 as wire

DEFAULT_NAME = "string_schema"
"""The name of the String schema of clients that chose none: the platform does not enforce it."""


class SchemaType(IntEnum):
    """The type of a payload. The numbers are those of the wire."""

    BYTES = 0
    STRING = 1
    INT64 = 2
    JSON = 3


@dataclass(frozen=True, slots=True)
class Schema:
    """A topic's schema. The class methods create one; ``Client.schema`` reads one.

    Attributes:
        type: the type of the payloads. An int64 is sent as decimal text.
        name: a label that is stored with the topic.
        definition: the JSON Schema text for JSON, otherwise empty.
        subject: of the schema registry, see `registered`; otherwise empty.
    """

    type: SchemaType = SchemaType.STRING
    name: str = DEFAULT_NAME
    definition: str = ""
    subject: str = ""

    @classmethod
    def registered(cls, subject: str) -> Schema:
        """A subject of the schema registry, for a producer: its topic gets the subject, which must exist.

        What payloads do that do not fit the subject is said by the validation policy of the topic.

        Raises:
            ValueError: the subject has no name: the topic would take any bytes.
        """
        if not subject:
            raise ValueError("a subject of the schema registry has a name")
        return cls(SchemaType.BYTES, subject, subject=subject)

    @classmethod
    def bytes(cls, name: str = "bytes_schema") -> Schema:
        """Any bytes."""
        return cls(SchemaType.BYTES, name)

    @classmethod
    def string(cls, name: str = "text_schema") -> Schema:
        """UTF-8 text."""
        return cls(SchemaType.STRING, name)

    @classmethod
    def int64(cls, name: str = "int64_schema") -> Schema:
        """A 64-bit integer as decimal text."""
        return cls(SchemaType.INT64, name)

    @classmethod
    def json(cls, definition: str, name: str = "json_schema") -> Schema:
        """JSON that fits the JSON Schema ``definition``."""
        return cls(SchemaType.JSON, name, definition)

    def to_wire(self) -> wire.Schema:
        """Return the protobuf message of the schema."""
        return wire.Schema(
            name=self.name,
            schema_data=self.definition.encode(),
            type_schema=wire.Schema.TypeSchema.Name(int(self.type)),
        )

    @classmethod
    def from_wire(cls, schema: wire.Schema) -> Schema:
        """Read a schema from its protobuf message; invalid UTF-8 in the definition is replaced."""
        return cls(
            SchemaType(int(schema.type_schema)), schema.name, schema.schema_data.decode(errors="replace")
        )
