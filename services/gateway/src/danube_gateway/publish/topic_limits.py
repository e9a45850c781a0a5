"""The policies of topics that publishing enforces: sizes, and rates over all gateways."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.errors import LimitExceeded
from danube_common.model.names import TopicName
from danube_common.model.rate_limit import TokenBucket

ENVELOPE_BYTES_MAX: Final = 64 * 1024
"""Bytes allowed for a message's names and attributes in addition to its payload."""
RATE_WAIT_S_MAX: Final = 2.0
"""A publish over ``max_publish_rate`` is delayed up to this long; a longer delay is refused."""


class TopicLimits:
    """The limits of one topic, looked up again when a policy has changed."""

    __slots__ = ("_catalogue", "_message_bytes_max", "_name", "_publish_rate_max", "_revision")

    def __init__(self, catalogue: Catalogue, name: TopicName) -> None:
        self._catalogue = catalogue
        self._name = name
        self._revision = -1
        self._message_bytes_max = 0
        self._publish_rate_max = 0

    @property
    def message_bytes_max(self) -> int:
        """The largest payload."""
        self._refresh()
        return self._message_bytes_max

    @property
    def publish_rate_max(self) -> int:
        """Messages per second; 0: no limit."""
        self._refresh()
        return self._publish_rate_max

    def leave_alone(self, payload_bytes: int, message_bytes: int) -> bool:
        """Return whether a message has nothing to wait for and is not too large."""
        self._refresh()
        return (
            not self._publish_rate_max
            and payload_bytes <= self._message_bytes_max
            and message_bytes - payload_bytes <= ENVELOPE_BYTES_MAX
        )

    def check(self, payload_bytes: int, message_bytes: int) -> None:
        """Raise LimitExceeded if a message is too large."""
        self._refresh()
        limit = self._message_bytes_max
        if payload_bytes > limit:
            raise LimitExceeded(
                "max_message_size", f"max_message_size is {limit} bytes: the payload has {payload_bytes}"
            )
        envelope = message_bytes - payload_bytes
        if envelope > ENVELOPE_BYTES_MAX:
            raise LimitExceeded(
                "message_envelope_bytes",
                f"the names and attributes of the message have {envelope} bytes: at most {ENVELOPE_BYTES_MAX}"
                " are allowed beside the payload",
            )

    def _refresh(self) -> None:
        if self._revision != self._catalogue.limits_revision:
            policies = self._catalogue.policies(self._name)
            self._message_bytes_max = policies.message_bytes_max
            self._publish_rate_max = policies.max_publish_rate
            self._revision = self._catalogue.limits_revision


class PublishRates:
    """Spreads the rate of each topic over the live gateways."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._buckets: dict[int, TokenBucket] = {}

    def forget(self, topic: Topic) -> None:
        """Forget a deleted topic."""
        self._buckets.pop(topic.topic_id, None)

    async def wait(self, topic: Topic, limit: int) -> None:
        """Wait until a message may pass; later callers wait longer, so order holds. Raises LimitExceeded."""
        bucket = self._bucket(topic, limit)
        bucket.take(1)
        wait_s = bucket.debt_s(time.monotonic())
        if wait_s > RATE_WAIT_S_MAX:
            bucket.take(-1)
            raise LimitExceeded(
                "max_publish_rate", f"max_publish_rate of topic {topic.name} is {limit} messages/s"
            )
        if wait_s:
            await asyncio.sleep(wait_s)

    async def wait_for_batch(self, topic: Topic, limit: int, messages: int) -> None:
        """Wait until everything before the batch is within the rate; the batch itself delays what follows."""
        while wait_s := self._bucket(topic, limit).debt_s(time.monotonic()):  # noqa: ASYNC110 - others run up a debt
            await asyncio.sleep(min(wait_s, RATE_WAIT_S_MAX))
        self._bucket(topic, limit).take(messages)

    def _bucket(self, topic: Topic, limit: int) -> TokenBucket:
        now = time.monotonic()
        share = limit / max(self._catalogue.instance_count("gateway"), 1)
        bucket = self._buckets.get(topic.topic_id)
        if bucket is None:
            bucket = self._buckets[topic.topic_id] = TokenBucket(share, now)
        bucket.set_rate(share, now)
        return bucket
