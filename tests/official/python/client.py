"""What a scenario needs of a client, whichever language it is written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol


class Kind(IntEnum):
    """Subscription types, by their number on the wire."""

    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2
    KEY_SHARED = 3


class Refused(Exception):
    """A call failed.

    Attributes:
        code: the name of the gRPC status; empty if there is none.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A received message; `whole` is what the client acknowledges."""

    payload: bytes
    attributes: Mapping[str, str]
    topic: str
    key: str
    schema: tuple[int, int]
    whole: Any

    @property
    def number(self) -> int:
        """The number that is its payload."""
        return int(self.payload)


class Producer(Protocol):
    """A producer."""

    async def send(self, payload: bytes, attributes: Mapping[str, str] = ..., key: str = "") -> None:
        """Publish a message; raises Refused."""


class Consumer(Protocol):
    """A consumer whose stream is open."""

    async def take(self, timeout_s: float) -> Message:
        """Return the next message; raises TimeoutError, and Refused if the client's consumer has ended."""

    async def ack(self, message: Message) -> None:
        """Acknowledge a message; raises Refused."""

    async def nack(self, message: Message, reason: str) -> None:
        """Refuse a message, to get it again as soon as the policy allows; raises Refused."""

    async def close(self) -> None:
        """End the stream."""


class Client(Protocol):
    """A client of the current generation. Subscriptions are called `sub`; all methods raise Refused."""

    async def produce(
        self, topic: str, *, reliable: bool = True, partitions: int = 0, subject: str = ""
    ) -> Producer:
        """Create a producer; 0 partitions are none."""

    async def consume(
        self, topic: str, name: str = "one", kind: Kind = Kind.EXCLUSIVE, filters: Sequence[str] = ()
    ) -> Consumer:
        """Subscribe, and open the stream."""

    async def register(self, subject: str, definition: bytes) -> int:
        """Add an Avro schema to a subject, and return its id."""

    async def schema(self, schema_id: int, version: int) -> bytes:
        """Return the definition of a version."""

    async def latest(self, subject: str) -> tuple[int, bytes]:
        """Return the latest version of a subject and its definition."""

    async def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject."""

    async def compatible(self, subject: str, definition: bytes) -> tuple[bool, list[str]]:
        """Return whether an Avro schema is compatible with a subject, and why not."""

    async def anything_is_compatible(self, subject: str) -> bool:
        """Set the compatibility mode of a subject to none."""

    async def enforce(self, topic: str, subject: str) -> bool:
        """Have the payloads of a topic validated by a subject."""
