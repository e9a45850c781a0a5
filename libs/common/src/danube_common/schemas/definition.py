"""The base of parsed definitions: one subclass for each way to define a schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from danube_common.model.schema import PayloadCheck
from danube_common.schemas.differences import Differences
from danube_common.schemas.kinds import SchemaType


class Definition(ABC):
    """A parsed definition of a schema.

    Attributes:
        kind: its type.
        canonical: equal for two definitions that differ in layout only; what the fingerprint is made of.
    """

    kind: SchemaType
    canonical: bytes

    @abstractmethod
    def compare(self, writer: Self, differences: Differences) -> None:
        """Note why this schema cannot read what ``writer``, of the same type, wrote.

        Sound: with nothing noted, each value written with ``writer`` can be read with this schema.
        Raises LimitExceeded.
        """

    @abstractmethod
    def payload_check(self) -> PayloadCheck:
        """Return the check whether payloads were written with this schema."""
