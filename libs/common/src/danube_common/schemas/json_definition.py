"""JSON Schema: definitions of the registry, compared by `json_subset` and checked as those of topics are."""

from __future__ import annotations

import json

from danube_common.errors import InvalidInput
from danube_common.model.json_schema import parsed_definition, read_json_schema
from danube_common.model.schema import PayloadCheck, Schema, SchemaKind, payload_check
from danube_common.schemas.definition import Definition
from danube_common.schemas.differences import Differences
from danube_common.schemas.json_subset import JsonComparison
from danube_common.schemas.json_values import JsonDocument
from danube_common.schemas.kinds import SchemaType


class JsonDefinition(Definition):
    """A JSON schema. A payload is one JSON value."""

    kind = SchemaType.JSON_SCHEMA

    def __init__(self, definition: bytes) -> None:
        try:
            self._text = definition.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the JSON schema is not UTF-8 text: {error.reason}") from None
        read_json_schema(self._text)
        self.root = parsed_definition(self._text)
        self.canonical = json.dumps(self.root, sort_keys=True).encode()

    def compare(self, writer: JsonDefinition, differences: Differences) -> None:
        """Show that all values of the writer fit this schema."""
        if self.canonical == writer.canonical:
            return
        count = differences.count_comparison
        reader_document, writer_document = JsonDocument(self.root, count), JsonDocument(writer.root, count)
        if reader_document.dialect != writer_document.dialect or not reader_document.dialect:
            differences.add(
                "",
                "JSON schemas are compared only if their $schema is the same: draft 6, 7, 2019-09 or 2020-12",
            )
            return
        JsonComparison(reader_document, writer_document, differences).subset(writer.root, self.root, "")

    def payload_check(self) -> PayloadCheck:
        """Return the check that a payload is a JSON value of this schema."""
        return payload_check(Schema("", SchemaKind.JSON, self._text))
