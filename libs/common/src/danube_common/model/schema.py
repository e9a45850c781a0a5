"""Schemas: the type of a topic's payloads, and the check on publish."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.model.json_schema import (
    JsonSchema,
    first_line,
    parsed_definition,
    read_json_schema,
    stored_json_schema,
)
from danube_common.model.json_text import JsonTextError, parse_json, same_json
from danube_common.model.schema_graph import UNBOUNDED

SCHEMA_BYTES_MAX = 256 * 1024
SCHEMA_NAME_LENGTH_MAX = 255
INT64_CHARACTERS_MAX = 20
UNCHOSEN_STRING_NAME: Final = "string_schema"
"""The name of the String schema that v0.2 clients send when their user chose none: it is not enforced."""

_INT64: Final = re.compile(rb"[+-]?[0-9]+")


class SchemaKind(StrEnum):
    """The type of a payload."""

    BYTES = "bytes"
    STRING = "string"
    INT64 = "int64"
    JSON = "json"


class Schema(msgspec.Struct, frozen=True):
    """A schema as a client gave it. ``definition`` is the JSON Schema text for JSON."""

    name: str
    kind: SchemaKind
    definition: str = ""

    def differs_from(self, other: Schema) -> str | None:
        """Return why two schemas are not the same contract, or None. Names are labels and do not count.

        Definitions are compared as JSON. Raises InvalidInput if the other one is no JSON.
        """
        if self.kind is not other.kind:
            return f"its schema type is {self.kind}, not {other.kind}"
        if self.kind is not SchemaKind.JSON or self.definition == other.definition:
            return None
        asked = parsed_definition(other.definition)
        try:
            same = same_json(parsed_definition(self.definition), asked)
        except InvalidInput:  # the stored one is older than a bound that the other keeps
            same = False
        return None if same else "the JSON schema differs from the one stored with the topic"


UNCHOSEN_SCHEMA: Final = Schema(UNCHOSEN_STRING_NAME, SchemaKind.STRING)
"""The schema of topics whose creator is of the current generation: all bytes pass, and v0.2 clients that
choose no schema may produce as well."""


def check_schema(schema: Schema) -> None:
    """Check that a schema of a new topic can be enforced; raises InvalidInput, naming a bound it is over."""
    if len(schema.name) > SCHEMA_NAME_LENGTH_MAX:
        raise InvalidInput(f"the schema name is longer than {SCHEMA_NAME_LENGTH_MAX} characters")
    if len(schema.definition.encode()) > SCHEMA_BYTES_MAX:
        raise InvalidInput(f"the schema is larger than {SCHEMA_BYTES_MAX} bytes")
    if schema.kind is SchemaKind.JSON:
        read_json_schema(schema.definition)


class PayloadCheck:
    """Checks the payloads of one topic. This one accepts all bytes.

    Attributes:
        takes_all: whether every payload fits.
    """

    takes_all = True

    def __call__(self, payload: bytes) -> None:
        """Raise SchemaViolation with the reason if the payload does not fit."""
        if not self.fits(payload):
            raise self.explain(payload)

    def cost(self, payload: bytes) -> int:  # noqa: ARG002 - the same for all
        """Estimate from above what `fits` costs, in units of some 20 ns."""
        return 0

    def explanation_cost(self, payload: bytes) -> int:  # noqa: ARG002
        """Estimate from above what `explain` costs, in the same units."""
        return 0

    def fits(self, payload: bytes) -> bool:  # noqa: ARG002
        """Return whether the payload fits. Raises SchemaViolation if the reason comes without a search."""
        return True

    def explain(self, payload: bytes) -> SchemaViolation:  # noqa: ARG002
        """Return the reason why a payload does not fit for which `fits` returned False."""
        return SchemaViolation("the payload does not fit the schema")


class _StringCheck(PayloadCheck):
    takes_all = False

    def fits(self, payload: bytes) -> bool:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise SchemaViolation(
                f"the payload is not UTF-8 text: {error.reason} at byte {error.start}"
            ) from None
        return True


class _Int64Check(PayloadCheck):
    """Decimal text, as the original's tools send it: a sign or none, then digits, and nothing else."""

    takes_all = False

    def fits(self, payload: bytes) -> bool:
        if len(payload) > INT64_CHARACTERS_MAX or not _INT64.fullmatch(payload):
            raise SchemaViolation("the payload is not an int64 as decimal text, such as -42")
        if not -(1 << 63) <= int(payload) < 1 << 63:
            raise SchemaViolation("the payload is an integer beyond 64 bits")
        return True


class _JsonCheck(PayloadCheck):
    """A stored definition may be over the bounds of a new one: it is compiled when a payload is checked."""

    takes_all = False

    def __init__(self, definition: str) -> None:
        self._definition = definition
        try:
            self._schema: JsonSchema | None = read_json_schema(definition)
        except InvalidInput:
            self._schema = None

    def cost(self, payload: bytes) -> int:
        return UNBOUNDED if self._schema is None else self._schema.cost(payload)

    def explanation_cost(self, payload: bytes) -> int:
        return UNBOUNDED if self._schema is None else self._schema.explanation_cost(payload)

    def fits(self, payload: bytes) -> bool:
        try:
            return self._compiled().is_valid(parse_json(payload))
        except JsonTextError as error:
            raise SchemaViolation(f"the payload is {error}") from None
        except ValueError as error:
            raise SchemaViolation(f"the payload cannot be checked: {first_line(error)}") from None

    def explain(self, payload: bytes) -> SchemaViolation:
        return SchemaViolation(
            f"the payload breaks the JSON schema {self._compiled().explain(parse_json(payload))}"
        )

    def _compiled(self) -> JsonSchema:
        if self._schema is None:
            try:
                self._schema = stored_json_schema(self._definition)
            except InvalidInput as error:
                raise SchemaViolation(f"no payload can be checked: {error}") from None
        return self._schema


def payload_check(schema: Schema) -> PayloadCheck:
    """Return the check for the payloads of a stored schema."""
    match schema.kind:
        case SchemaKind.BYTES:
            return PayloadCheck()
        case SchemaKind.STRING:
            return PayloadCheck() if schema.name == UNCHOSEN_STRING_NAME else _StringCheck()
        case SchemaKind.INT64:
            return _Int64Check()
        case SchemaKind.JSON:
            return _JsonCheck(schema.definition)
