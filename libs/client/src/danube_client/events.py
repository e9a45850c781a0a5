"""Events of a consumer: what its user may want to know beside the messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from danube_client.errors import ClientError


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream of a topic has ended; the consumer subscribes again until it succeeds.

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
    """Messages were deleted before the subscription acknowledged them.

    Attributes:
        topic: the topic or partition.
        subscription: the subscription's name.
        count: how many, at least, since a consumer of the subscription was told last.
    """

    topic: str
    subscription: str
    count: int


Event = Disconnected | Reconnected | Lost
OnEvent = Callable[[Event], None]
