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
        self.topics_owned = metrics.gauge(
            "broker_topics_owned", "The same as broker_topics, as today's Danube names it.", ("broker",)
        )
        self.bundles = metrics.gauge("broker_bundles", "Bundles that this process owns.", ("broker",))
        self.producers = metrics.gauge(
            "topic_producers",
            "Producers that sent or asked for their health within the last minute.",
            ("topic",),
        )
        self.consumers = metrics.gauge("topic_consumers", "Consumers with an open stream.", ("topic",))
        self.active_producers = metrics.gauge(
            "topic_active_producers", "The same as topic_producers, as today's Danube names it.", ("topic",)
        )
        self.active_consumers = metrics.gauge(
            "topic_active_consumers", "The same as topic_consumers, as today's Danube names it.", ("topic",)
        )
        self.subscription_consumers = metrics.gauge(
            "subscription_active_consumers", "Consumers with an open stream.", ("topic", "subscription")
        )
        self.dropped = metrics.counter(
            "subscription_dropped",
            "Non-reliable messages dropped: no consumer was connected, or too many bytes waited already.",
            ("topic", "subscription"),
        )
        self.redelivered = metrics.counter(
            "subscription_redelivery", "Messages delivered again.", ("topic", "subscription")
        )
        self.nacked = metrics.counter(
            "subscription_nack", "Deliveries that consumers said have failed.", ("topic", "subscription")
        )
        self.timed_out = metrics.counter(
            "subscription_ack_timeout",
            "Deliveries that failed because they were not acknowledged in time.",
            ("topic", "subscription"),
        )
        self.exhausted = metrics.counter(
            "subscription_retry_exhausted",
            "Messages that failed more often than redeliveries are allowed.",
            ("topic", "subscription", "poison_policy"),
        )
        self.dead_letters = metrics.counter(
            "subscription_dlq", "Messages published to a dead-letter topic.", ("topic", "subscription")
        )
        self.pending_redelivery = metrics.gauge(
            "subscription_pending_redelivery",
            "Messages that failed and wait to be delivered again.",
            ("topic", "subscription"),
        )
        self.terminal_blocked = metrics.gauge(
            "subscription_terminal_blocked",
            "Messages that failed too often and are kept; exclusive and failover deliver nothing behind one.",
            ("topic", "subscription"),
        )
        self.unacked = metrics.gauge(
            "subscription_unacked_messages",
            "Messages delivered and not acknowledged.",
            ("topic", "subscription"),
        )
        self.lag = metrics.gauge(
            "subscription_lag_messages",
            "Messages not acknowledged; a lower bound if the owner has not read the log from where one is.",
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

    def forget_subscription(self, topic: str, subscription: str) -> None:
        """Delete the gauges of a subscription that this process no longer has."""
        for gauge in (
            self.subscription_consumers,
            self.pending_redelivery,
            self.terminal_blocked,
            self.unacked,
            self.lag,
            self.oldest_unacked_age_s,
        ):
            gauge.remove(topic, subscription)

    def forget_topic(self, topic: str) -> None:
        """Delete the gauges of a topic that this process no longer has."""
        for gauge in (self.consumers, self.active_consumers, self.producers, self.active_producers):
            gauge.remove(topic)
