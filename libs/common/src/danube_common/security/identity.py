"""Who makes a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from danube_common.errors import InvalidInput
from danube_common.model.names import check_label


class PrincipalType(StrEnum):
    """The kinds of principals. A certificate's name never means the user of that name, or the reverse."""

    USER = "user"
    SERVICE_ACCOUNT = "service_account"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal that has proved who it is."""

    kind: PrincipalType
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def of(cls, kind: str, name: str) -> Identity:
        """Return the identity. Raises InvalidInput for a type or name that cannot be one."""
        try:
            principal = PrincipalType(kind)
        except ValueError:
            types = ", ".join(PrincipalType)
            raise InvalidInput(f"the principal type {kind[:40]!r} is none of {types}") from None
        return cls(principal, check_label(name, "principal"))

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Parse ``type:name``; a text without a type is a user. Raises InvalidInput."""
        kind, found, name = text.partition(":")
        if found and kind in frozenset(PrincipalType):
            return cls.of(kind, name)
        return cls.of(PrincipalType.USER, text)
