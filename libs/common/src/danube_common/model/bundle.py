"""Bundles: the unit of log, journal, ownership and archive. A topic belongs to one bundle for life."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from danube_common.errors import InvalidInput

BUNDLES_PER_FAMILY_MAX = 1 << 14


class Family(StrEnum):
    """Where a bundle's log is kept."""

    FILE = "f"
    MEMORY = "m"


@dataclass(frozen=True, slots=True, order=True)
class Bundle:
    """One bundle, written ``f3`` or ``m0`` in subjects, stream names and metadata keys."""

    family: Family
    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < BUNDLES_PER_FAMILY_MAX:
            raise InvalidInput(f"bundle number {self.number} is not in 0..{BUNDLES_PER_FAMILY_MAX - 1}")

    def __str__(self) -> str:
        return f"{self.family}{self.number}"

    @property
    def index(self) -> int:
        """A dense number over both families, 0..32767; the upper part of producer and consumer ids."""
        return self.number * 2 + (self.family is Family.MEMORY)

    @classmethod
    def from_index(cls, index: int) -> Bundle:
        """Return the bundle of an index."""
        return cls(Family.MEMORY if index & 1 else Family.FILE, index >> 1)

    @classmethod
    def parse(cls, text: str) -> Bundle:
        """Parse ``f3``; raises InvalidInput."""
        try:
            return cls(Family(text[:1]), int(text[1:]))
        except ValueError as error:
            raise InvalidInput(f"{text!r} is not a bundle, expected for example 'f0'") from error
