"""The attributes that a dead letter has beyond its message.

The platform sets them when a message failed too often and its subscription has a dead-letter topic.
"""

from __future__ import annotations

from typing import Final

ORIGINAL_TOPIC: Final = "x-original-topic"
ORIGINAL_SUBSCRIPTION: Final = "x-original-subscription"
ORIGINAL_OFFSET: Final = "x-original-topic-offset"
ORIGINAL_PRODUCER_ID: Final = "x-original-producer-id"
ORIGINAL_BROKER_ADDR: Final = "x-original-broker-addr"
POISON_POLICY: Final = "x-poison-policy"
ATTEMPTS: Final = "x-delivery-attempt"
REASON: Final = "x-failure-reason"
ADDED: Final = (
    ORIGINAL_TOPIC,
    ORIGINAL_SUBSCRIPTION,
    ORIGINAL_OFFSET,
    ORIGINAL_PRODUCER_ID,
    ORIGINAL_BROKER_ADDR,
    POISON_POLICY,
    ATTEMPTS,
    REASON,
)
"""All of them."""
