"""What a topic-owner counts."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class OwnerMetrics:
    """Names of the original where the meaning is equal (v0.2 spec section 4.4)."""

    def __init__(self, metrics: Metrics, broker: str) -> None:
        self.broker = broker
        self.topics = metrics.gauge("broker_topics", "Topics in the bundles this owner holds.", ("broker",))
        self.bundles = metrics.gauge("broker_bundles", "Bundles this owner holds.", ("broker",))
        self.producers = metrics.gauge("topic_producers", "Producers that showed life lately.", ("topic",))
        self.consumers = metrics.gauge("topic_consumers", "Consumers with an open stream.", ("topic",))
        self.dropped = metrics.counter(
            "subscription_dropped",
            "Non-reliable messages dropped for want of a consumer with room.",
            ("topic", "subscription"),
        )
        self.redelivered = metrics.counter(
            "subscription_redelivery", "Messages sent again.", ("topic", "subscription")
        )
        self.unacked = metrics.gauge(
            "subscription_unacked_messages", "Delivered, not acknowledged.", ("topic", "subscription")
        )
        self.expired = metrics.counter(
            "subscription_expired_messages",
            "Lower bound of the messages that expired before they were acknowledged.",
            ("topic", "subscription"),
        )
        self.waiting_for_archive = metrics.gauge(
            "subscriptions_waiting_for_archive",
            "Subscriptions that storage cannot serve now, or whose next segment is in quarantine.",
            ("bundle",),
        )
        self.fenced = metrics.counter("journal_fenced", "Times another owner had written.", ("broker",))
