"""The types without rules of their own: bytes, string and number."""

from __future__ import annotations

import re
from typing import Final

from danube_common.errors import SchemaViolation
from danube_common.model.schema import PayloadCheck, Schema, SchemaKind, payload_check
from danube_common.schemas.definition import Definition
from danube_common.schemas.differences import Differences
from danube_common.schemas.kinds import SchemaType

NUMBER_CHARACTERS_MAX: Final = 400
_NUMBER: Final = re.compile(rb"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class PlainDefinition(Definition):
    """Bytes, text in UTF-8 or a number as decimal text. The definition is a note for people."""

    def __init__(self, kind: SchemaType, definition: bytes) -> None:
        self.kind = kind
        self.canonical = definition

    def compare(self, writer: PlainDefinition, differences: Differences) -> None:
        """Note nothing: all versions have the same values."""

    def payload_check(self) -> PayloadCheck:
        """Return the check of the type."""
        match self.kind:
            case SchemaType.STRING:
                return payload_check(Schema("", SchemaKind.STRING))
            case SchemaType.NUMBER:
                return _NumberCheck()
            case _:
                return PayloadCheck()


class _NumberCheck(PayloadCheck):
    def fits(self, payload: bytes) -> bool:
        if len(payload) > NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(payload):
            raise SchemaViolation("the payload is not a number as decimal text, such as -42 or 2.5e3")
        return True
