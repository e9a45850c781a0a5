"""Failure policies: what a reliable subscription does with messages that its consumers fail to process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from danube_proto import danube_platform_pb2 as platform


class Backoff(IntEnum):
    """How the delay before a redelivery grows with the failures. The numbers are those of the wire."""

    FIXED = 0
    EXPONENTIAL = 1


class Poison(IntEnum):
    """What becomes of a message that failed too often. The numbers are those of the wire."""

    DEAD_LETTER = 0
    """It is published to the dead-letter topic, then acknowledged."""
    BLOCK = 1
    """It is kept and not delivered again. EXCLUSIVE and FAILOVER deliver nothing that follows it, KEY_SHARED
    nothing of its key."""
    DROP = 2
    """It is acknowledged."""


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """When a delivery counts as failed, when its message comes again, and how often.

    Attributes:
        max_redelivery_count: a message is poison once more deliveries of it than this have failed.
        ack_timeout_s: a delivery fails when the consumer makes no progress with it for so long; 0 is never.
        base_redelivery_delay_s: how long a message waits after its first failure.
        max_redelivery_delay_s: the longest wait, also of what ``nack(delay=)`` asks for.
        backoff: how the wait grows.
        dead_letter_topic: ``/namespace/topic``; empty for none. The platform creates it.
        poison: what becomes of poison. None is DEAD_LETTER with a dead-letter topic, else BLOCK.
    """

    max_redelivery_count: int = 5
    ack_timeout_s: float = 30.0
    base_redelivery_delay_s: float = 1.0
    max_redelivery_delay_s: float = 60.0
    backoff: Backoff = Backoff.EXPONENTIAL
    dead_letter_topic: str = ""
    poison: Poison | None = None

    def __post_init__(self) -> None:
        """Choose what becomes of poison; raises ValueError if a number is negative."""
        numbers = (
            self.max_redelivery_count,
            self.ack_timeout_s,
            self.base_redelivery_delay_s,
            self.max_redelivery_delay_s,
        )
        if min(numbers) < 0:
            raise ValueError("the numbers of a failure policy are not negative")
        if self.poison is None:
            chosen = Poison.DEAD_LETTER if self.dead_letter_topic else Poison.BLOCK
            object.__setattr__(self, "poison", chosen)

    def is_poison(self, failures: int) -> bool:
        """Whether a message is not delivered again after so many failed deliveries."""
        return failures > self.max_redelivery_count

    def delay_s(self, failures: int, requested_s: float = 0) -> float:
        """Return how long a message waits after its failure number ``failures``, from 1."""
        delay_s = self.base_redelivery_delay_s
        if self.backoff is Backoff.EXPONENTIAL:
            delay_s *= 2 ** min(failures - 1, 32)
        return min(max(delay_s, requested_s), self.max_redelivery_delay_s)

    def to_wire(self) -> platform.FailurePolicy:
        """Return the protobuf message of the policy."""
        return platform.FailurePolicy(
            max_redelivery_count=self.max_redelivery_count,
            ack_timeout_ms=round(self.ack_timeout_s * 1000),
            base_redelivery_delay_ms=round(self.base_redelivery_delay_s * 1000),
            max_redelivery_delay_ms=round(self.max_redelivery_delay_s * 1000),
            backoff=platform.FailurePolicy.Backoff.Name(int(self.backoff)),
            dead_letter_topic=self.dead_letter_topic,
            poison=platform.FailurePolicy.Poison.Name(int(self.poison or 0)),
        )

    @classmethod
    def from_wire(cls, message: platform.FailurePolicy) -> FailurePolicy:
        """Return the policy of a protobuf message."""
        return cls(
            message.max_redelivery_count,
            message.ack_timeout_ms / 1000,
            message.base_redelivery_delay_ms / 1000,
            message.max_redelivery_delay_ms / 1000,
            Backoff(int(message.backoff)),
            message.dead_letter_topic,
            Poison(int(message.poison)),
        )
