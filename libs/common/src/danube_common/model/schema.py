"""Schemas: the type of a topic's payloads, and the check on publish."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import jsonschema_rs
import msgspec
import orjson

from danube_common.errors import InvalidInput, SchemaViolation

SCHEMA_BYTES_MAX = 256 * 1024
SCHEMA_NAME_LENGTH_MAX = 255
INT64_DIGITS_MAX = 20

PayloadCheck = Callable[[bytes], None]
"""Raises SchemaViolation with the reason; returns nothing for a fitting payload."""


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
        """Return why two schemas are not the same contract, or None. Names are labels and do not count."""
        if self.kind is not other.kind:
            return f"its schema type is {self.kind}, not {other.kind}"
        if self.kind is SchemaKind.JSON and _parsed(self.definition) != _parsed(other.definition):
            return "the JSON schema differs from the one stored with the topic"
        return None


def check_schema(schema: Schema) -> None:
    """Check that a schema can be enforced; raises InvalidInput."""
    if len(schema.name) > SCHEMA_NAME_LENGTH_MAX:
        raise InvalidInput(f"the schema name is longer than {SCHEMA_NAME_LENGTH_MAX} characters")
    if len(schema.definition.encode()) > SCHEMA_BYTES_MAX:
        raise InvalidInput(f"the schema is larger than {SCHEMA_BYTES_MAX} bytes")
    payload_check(schema)


def payload_check(schema: Schema) -> PayloadCheck:
    """Compile the check for one schema; raises InvalidInput if the definition is not a JSON Schema."""
    match schema.kind:
        case SchemaKind.BYTES:
            return _accept
        case SchemaKind.STRING:
            return _check_string
        case SchemaKind.INT64:
            return _check_int64
        case SchemaKind.JSON:
            return _json_check(schema.definition)


def _accept(_payload: bytes) -> None:
    pass


def _check_string(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise SchemaViolation(
            f"the payload is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None


def _check_int64(payload: bytes) -> None:
    """Eight bytes of either order, or a decimal integer as text, as the original's tools send it."""
    if len(payload) == 8:
        return
    try:
        text = payload.decode("ascii")
        number = int(text) if len(text) <= INT64_DIGITS_MAX and "_" not in text else None
    except ValueError:
        number = None
    if number is None or not -(1 << 63) <= number < 1 << 63:
        raise SchemaViolation("the payload is neither 8 bytes nor a decimal integer of 64 bits")


def _json_check(definition: str) -> PayloadCheck:
    schema = _parsed(definition)
    if schema == {} or schema is True:
        return _check_json
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_no_remote_reference)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"the JSON schema is not valid: {_first_line(error)}") from None

    def check(payload: bytes) -> None:
        instance = _load(payload)
        try:
            first = None if validator.is_valid(instance) else next(validator.iter_errors(instance))
        except ValueError as error:
            raise SchemaViolation(f"the payload cannot be checked: {_first_line(error)}") from None
        if first is not None:
            where = "/".join(str(step) for step in first.instance_path)
            raise SchemaViolation(
                f"the payload breaks the JSON schema at '/{where}': {_first_line(first.message)}"
            )

    return check


def _check_json(payload: bytes) -> None:
    _load(payload)


def _load(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise SchemaViolation(f"the payload is not JSON: {error}") from None


def _parsed(definition: str) -> Any:
    if not definition.strip():
        return {}
    try:
        return orjson.loads(definition)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the JSON schema is not JSON: {error}") from None


def _no_remote_reference(uri: str) -> Any:
    raise ValueError(f"a schema must be self-contained, it refers to {uri}")


def _first_line(error: object) -> str:
    return str(error).splitlines()[0][:300] if str(error) else "no reason given"
