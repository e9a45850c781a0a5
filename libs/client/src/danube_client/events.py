"""Events of a consumer: what its user may want to know beside the messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from danube_client.errors import ClientError


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream of a producer or consumer has ended; it tries to come back.

    Attributes:
        topic: the topic or partition.
        error: why the stream ended; None if the platform ended it without an error.
    """

    topic: str
    error: ClientError | None


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The stream of a topic is open again.

    Attributes:
        topic: the topic or partition.
        away_s: seconds since `Disconnected`.
    """

    topic: str
    away_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages were deleted before the subscription acknowledged them, or dropped by a non-reliable topic.

    Attributes:
        topic: the topic or partition.
        subscription: the subscription's name.
        count: how many, at least, since a consumer of the subscription was told last.
        dropped: whether the topic is non-reliable: no consumer was connected or had room.
    """

    topic: str
    subscription: str
    count: int
    dropped: bool = False

    def __str__(self) -> str:
        messages = "1 message" if self.count == 1 else f"{self.count} messages"
        if self.dropped:
            return f"{messages} of {self.topic} found no room at subscription {self.subscription}"
        return f"{messages} of {self.topic} expired before subscription {self.subscription} read them"


@dataclass(frozen=True, slots=True)
class Assigned:
    """Of a FAILOVER or EXCLUSIVE subscription: whether this consumer is the one that gets messages.

    Attributes:
        topic: the topic or partition.
        active: False for a consumer that stands by.
    """

    topic: str
    active: bool


@dataclass(frozen=True, slots=True)
class EndOfBacklog:
    """Everything that was stored so far has been delivered to the subscription.

    Attributes:
        topic: the topic or partition.
    """

    topic: str


Event = Disconnected | Reconnected | Lost | Assigned | EndOfBacklog
OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Do nothing with an event."""
