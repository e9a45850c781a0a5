"""What a topic's payloads are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from danube_proto import danube_api_pb2 as wire

DEFAULT_NAME = "string_schema"


class SchemaType(IntEnum):
    """Numbered as on the wire."""

    BYTES = 0
    STRING = 1
    INT64 = 2
    JSON = 3


@dataclass(frozen=True, slots=True)
class Schema:
    """A topic's schema: made by the four class methods below, or read from the platform.

    Attributes:
        type: what payloads are. An int64 travels as decimal text.
        name: free text, kept with the topic.
        definition: the JSON Schema with JSON, otherwise empty.
    """

    type: SchemaType = SchemaType.STRING
    name: str = DEFAULT_NAME
    definition: str = ""

    @classmethod
    def bytes(cls, name: str = "bytes_schema") -> Schema:
        return cls(SchemaType.BYTES, name)

    @classmethod
    def string(cls, name: str = DEFAULT_NAME) -> Schema:
        return cls(SchemaType.STRING, name)

    @classmethod
    def int64(cls, name: str = "int64_schema") -> Schema:
        return cls(SchemaType.INT64, name)

    @classmethod
    def json(cls, definition: str, name: str = "json_schema") -> Schema:
        return cls(SchemaType.JSON, name, definition)

    def to_wire(self) -> wire.Schema:
        return wire.Schema(
            name=self.name,
            schema_data=self.definition.encode(),
            type_schema=wire.Schema.TypeSchema.Name(int(self.type)),
        )

    @classmethod
    def from_wire(cls, schema: wire.Schema) -> Schema:
        """Reads a schema; text that is not UTF-8 is replaced, as only a person reads it."""
        return cls(
            SchemaType(int(schema.type_schema)), schema.name, schema.schema_data.decode(errors="replace")
        )
