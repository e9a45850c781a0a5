"""What a reliable subscription does with messages that its consumers fail to process."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from danube_common.errors import InvalidInput, InvalidName
from danube_common.model.names import TopicName

REDELIVERIES_MAX = (1 << 32) - 1
ACK_TIMEOUT_MAX_MS = 24 * 3600 * 1000
REDELIVERY_DELAY_MAX_MS = 24 * 3600 * 1000
REASON_CHARACTERS_MAX = 256
"""Of a client's reason for a failure; a longer one is cut."""
DOUBLINGS_MAX = 32
"""An exponential backoff that was doubled so often has reached any bound."""


class BackoffStrategy(IntEnum):
    """How the delay before a redelivery grows with the attempts. The numbers are those of the wire."""

    FIXED = 0
    EXPONENTIAL = 1


class PoisonPolicy(IntEnum):
    """What becomes of a message that failed too often. The numbers are those of the wire."""

    DEAD_LETTER = 0
    """It is published to the dead-letter topic, then acknowledged."""
    BLOCK = 1
    """It is kept and not delivered again. Exclusive and failover deliver nothing that follows it."""
    DROP = 2
    """It is acknowledged."""


class FailurePolicy(msgspec.Struct, frozen=True):
    """When a delivery counts as failed, when its message comes again, and how often.

    Attributes:
        max_redelivery_count: a message is poison once more deliveries of it than this have failed.
        ack_timeout_ms: a delivery fails when the consumer makes no progress with it for so long; 0 is never.
        base_redelivery_delay_ms: how long a message waits after its first failure.
        max_redelivery_delay_ms: the longest wait, also of what a negative acknowledgement asks for.
        backoff_strategy: how the wait grows.
        dead_letter_topic: the name of a topic; empty for none.
        poison_policy: what becomes of poison.
    """

    max_redelivery_count: int = 5
    ack_timeout_ms: int = 30_000
    base_redelivery_delay_ms: int = 1_000
    max_redelivery_delay_ms: int = 60_000
    backoff_strategy: BackoffStrategy = BackoffStrategy.EXPONENTIAL
    dead_letter_topic: str = ""
    poison_policy: PoisonPolicy = PoisonPolicy.BLOCK

    def is_poison(self, failures: int) -> bool:
        """Return whether a message is not delivered again after so many failed deliveries."""
        return failures > self.max_redelivery_count

    def delay_ms(self, failures: int, requested_ms: int = 0) -> int:
        """Return how long a message waits after its failure number ``failures`` (from 1).

        At least as long as was requested, but never longer than ``max_redelivery_delay_ms``.
        """
        delay = self.base_redelivery_delay_ms
        if self.backoff_strategy is BackoffStrategy.EXPONENTIAL:
            delay <<= min(max(failures - 1, 0), DOUBLINGS_MAX)
        return min(max(delay, requested_ms), self.max_redelivery_delay_ms)


def policy_of(message: object) -> FailurePolicy:
    """Return the policy of a message's attributes, or of a mapping. Raises InvalidInput: an unknown enum."""
    try:
        return msgspec.convert(message, FailurePolicy, from_attributes=True)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None


def check_failure_policy(policy: FailurePolicy, topic: str) -> None:
    """Refuse a policy that a subscription of ``topic`` cannot have; raises InvalidInput."""
    _check_range("max_redelivery_count", policy.max_redelivery_count, REDELIVERIES_MAX)
    _check_range("ack_timeout_ms", policy.ack_timeout_ms, ACK_TIMEOUT_MAX_MS)
    _check_range("base_redelivery_delay_ms", policy.base_redelivery_delay_ms, REDELIVERY_DELAY_MAX_MS)
    _check_range("max_redelivery_delay_ms", policy.max_redelivery_delay_ms, REDELIVERY_DELAY_MAX_MS)
    if policy.base_redelivery_delay_ms > policy.max_redelivery_delay_ms:
        raise InvalidInput(
            f"base_redelivery_delay_ms {policy.base_redelivery_delay_ms} is over"
            f" max_redelivery_delay_ms {policy.max_redelivery_delay_ms}"
        )
    if policy.dead_letter_topic:
        try:
            name = TopicName.parse(policy.dead_letter_topic)
        except InvalidName as error:
            raise InvalidInput(f"dead_letter_topic: {error}") from None
        if str(name) == topic:
            raise InvalidInput(f"dead_letter_topic is {topic}: the subscription would read its dead letters")
    elif policy.poison_policy is PoisonPolicy.DEAD_LETTER:
        raise InvalidInput("the poison policy dead_letter needs a dead_letter_topic")


def _check_range(field: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InvalidInput(f"{field} must be in 0..{most}, not {value}")
