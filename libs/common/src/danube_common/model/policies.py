"""Policies of broker, namespace and topic. The nearest level that sets a policy decides.

Eight are those of v0.2; ``max_retained_mb`` is this platform's own.
"""

from __future__ import annotations

import msgspec

from danube_common.errors import InvalidInput

MESSAGE_BYTES_CEILING = 16 * 1024 * 1024
"""No policy lets a larger payload pass: the bus and the log are sized for it."""
MESSAGE_BYTES_DEFAULT = 4_000_000
"""The default bound of a payload. Clients of v0.2 decode at most 4 MiB for a whole delivery: payload, names
and attributes (64 KiB at most), and what a gateway adds. A larger one blocks their subscription."""
POLICY_MAX = (1 << 32) - 1
V0_2_POLICIES = (
    "max_producers_per_topic",
    "max_subscriptions_per_topic",
    "max_consumers_per_topic",
    "max_consumers_per_subscription",
    "max_publish_rate",
    "max_dispatch_rate",
    "max_subscription_dispatch_rate",
    "max_message_size",
)
"""What peers of the v0.2 contract know, in the order in which they are told."""


class PolicyOverrides(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policies that one level sets; None leaves the level above in force. 0 means no limit."""

    max_producers_per_topic: int | None = None
    max_subscriptions_per_topic: int | None = None
    max_consumers_per_topic: int | None = None
    max_consumers_per_subscription: int | None = None
    max_publish_rate: int | None = None
    max_dispatch_rate: int | None = None
    max_subscription_dispatch_rate: int | None = None
    max_message_size: int | None = None
    max_retained_mb: int | None = None

    def over(self, below: PolicyOverrides) -> PolicyOverrides:
        """Return these values where set, else those of ``below``, the next level up."""
        merged = {
            field: value if (value := getattr(self, field)) is not None else getattr(below, field)
            for field in self.__struct_fields__
        }
        return PolicyOverrides(**merged)


class Policies(msgspec.Struct, frozen=True):
    """The values in force: rates in messages per second, sizes in bytes or MiB, 0 = no limit."""

    max_producers_per_topic: int = 0
    max_subscriptions_per_topic: int = 0
    max_consumers_per_topic: int = 0
    max_consumers_per_subscription: int = 0
    max_publish_rate: int = 0
    max_dispatch_rate: int = 0
    max_subscription_dispatch_rate: int = 0
    max_message_size: int = MESSAGE_BYTES_DEFAULT
    max_retained_mb: int = 0

    @property
    def message_bytes_max(self) -> int:
        """The payload bound in force, never above the ceiling."""
        return min(self.max_message_size or MESSAGE_BYTES_CEILING, MESSAGE_BYTES_CEILING)

    def overridden_by(self, *levels: PolicyOverrides) -> Policies:
        """Apply ``levels`` from the widest (namespace) to the nearest (topic)."""
        values = msgspec.structs.asdict(self)
        for level in levels:
            values.update({k: v for k, v in msgspec.structs.asdict(level).items() if v is not None})
        return Policies(**values)


def check_overrides(overrides: PolicyOverrides) -> None:
    """Refuse values out of range; raises InvalidInput."""
    for field, value in msgspec.structs.asdict(overrides).items():
        if value is not None and not 0 <= value <= POLICY_MAX:
            raise InvalidInput(f"{field} must be in 0..{POLICY_MAX}, not {value}")
    size = overrides.max_message_size
    if size is not None and size > MESSAGE_BYTES_CEILING:
        raise InvalidInput(f"max_message_size {size} is over the ceiling of {MESSAGE_BYTES_CEILING} bytes")
