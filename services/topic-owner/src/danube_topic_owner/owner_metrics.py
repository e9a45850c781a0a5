"""Metrics of a topic-owner."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class OwnerMetrics:
    """Counters and gauges. A metric that the original Danube has too has the same name here."""

    def __init__(self, metrics: Metrics, broker: str) -> None:
        self.broker = broker
        self.topics = metrics.gauge(
            "broker_topics", "Topics in the bundles that this process owns.", ("broker",)
        )
        self.bundles = metrics.gauge("broker_bundles", "Bundles that this process owns.", ("broker",))
        self.producers = metrics.gauge(
            "topic_producers",
            "Producers that sent or asked for their health within the last minute.",
            ("topic",),
        )
        self.consumers = metrics.gauge("topic_consumers", "Consumers with an open stream.", ("topic",))
        self.dropped = metrics.counter(
            "subscription_dropped",
            "Non-reliable messages dropped: no consumer was connected, or too many bytes waited already.",
            ("topic", "subscription"),
        )
        self.redelivered = metrics.counter(
            "subscription_redelivery", "Messages delivered again.", ("topic", "subscription")
        )
        self.unacked = metrics.gauge(
            "subscription_unacked_messages",
            "Messages delivered and not acknowledged.",
            ("topic", "subscription"),
        )
        self.lag = metrics.gauge(
            "subscription_lag_messages",
            "Messages not acknowledged; a lower bound while a subscription is behind the end of the log.",
            ("topic", "subscription"),
        )
        self.oldest_unacked_age_s = metrics.gauge(
            "subscription_oldest_unacked_age_seconds",
            "Age of the oldest message that is not acknowledged, as far as this owner saw; with a lag of 0:"
            " the log has grown since the subscription was read, maybe by other topics.",
            ("topic", "subscription"),
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
        self.fenced = metrics.counter(
            "journal_fenced", "Writes refused because another owner had written the journal.", ("broker",)
        )
