"""The words of the registry's contract: schema types, compatibility modes and validation policies."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from danube_common.errors import InvalidInput


class SchemaType(StrEnum):
    """What a schema's definition is, and so how it is compared and how payloads are checked."""

    BYTES = "bytes"
    STRING = "string"
    NUMBER = "number"
    AVRO = "avro"
    JSON_SCHEMA = "json_schema"
    PROTOBUF = "protobuf"


class CompatibilityMode(StrEnum):
    """What a new version of a subject has to keep.

    Backward: the new version reads what the latest one wrote. Forward: the latest one reads what the new one
    writes. Full: both. The transitive modes compare with every version, not only with the latest.
    """

    NONE = "none"
    BACKWARD = "backward"
    BACKWARD_TRANSITIVE = "backward_transitive"
    FORWARD = "forward"
    FORWARD_TRANSITIVE = "forward_transitive"
    FULL = "full"
    FULL_TRANSITIVE = "full_transitive"

    @property
    def backward(self) -> bool:
        """Whether the new version must read old data."""
        return self.startswith(("backward", "full"))

    @property
    def forward(self) -> bool:
        """Whether old versions must read new data."""
        return self.startswith(("forward", "full"))

    @property
    def transitive(self) -> bool:
        """Whether all versions count, not only the latest."""
        return self.endswith("_transitive")


class ValidationPolicy(StrEnum):
    """What happens to a message that does not fit its topic's subject."""

    NONE = "none"
    WARN = "warn"
    ENFORCE = "enforce"


_ALIASES: Final = {
    "json": "json_schema",
    "jsonschema": "json_schema",
    "int64": "number",
    "proto": "protobuf",
}
_SHOWN_CHARACTERS: Final = 40

W = TypeVar("W", bound=StrEnum)


def schema_type(text: str) -> SchemaType:
    """Return the type of this name or alias, in any case. Raises InvalidInput."""
    return _word(SchemaType, _ALIASES.get(text.lower(), text), "schema type")


def compatibility_mode(text: str) -> CompatibilityMode:
    """Return the mode of this name, in any case. Raises InvalidInput."""
    return _word(CompatibilityMode, text, "compatibility mode")


def validation_policy(text: str) -> ValidationPolicy:
    """Return the policy of this name, in any case. Raises InvalidInput."""
    return _word(ValidationPolicy, text, "validation policy")


def _word(kind: type[W], text: str, what: str) -> W:
    try:
        return kind(text.lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(kind)
        raise InvalidInput(f"{what} {text[:_SHOWN_CHARACTERS]!r} is none of: {known}") from None
