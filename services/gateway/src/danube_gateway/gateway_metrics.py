"""The gateway's metrics. Names are the original's where the meaning is equal."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class GatewayMetrics:
    """Counters and gauges of one gateway."""

    def __init__(self, metrics: Metrics) -> None:
        self._msg_in = metrics.counter(
            "topic_msg_in_counter", "Messages accepted.", ("topic", "producer"), suffix=False
        )
        self._bytes_in = metrics.counter(
            "topic_bytes_in_counter", "Payload bytes accepted.", ("topic", "producer"), suffix=False
        )
        self._publish_s = metrics.histogram(
            "publish_seconds", "Seconds from a message's arrival to its answer.", ("producer",)
        )
        self.publish_failures = metrics.counter(
            "publish_failures",
            "Messages refused or not stored in time; reason: a limit, schema, unavailable, other.",
            ("topic", "reason"),
        )
        self._msg_out = metrics.counter(
            "consumer_msg_out_counter", "Messages handed to clients.", ("topic", "consumer"), suffix=False
        )
        self._bytes_out = metrics.counter(
            "consumer_bytes_out_counter", "Bytes handed to clients.", ("topic", "consumer"), suffix=False
        )
        self.sessions = metrics.gauge("gateway_sessions", "Open consumer streams.", ("topic",))
        self.gaps = metrics.counter(
            "gateway_delivery_gaps", "Times deliveries were lost on the bus and asked for again.", ("topic",)
        )
        self.unconfirmed_acks = metrics.gauge(
            "gateway_unconfirmed_acks",
            "Acknowledgements that were answered and that the bundle's owner has not confirmed yet.",
            ("bundle",),
        )
        self.void_acks = metrics.counter(
            "gateway_void_acks",
            "Acknowledgements that were answered and did not count: no such subscription, or refused.",
            ("topic",),
        )
        self.slow_schema_checks = metrics.counter(
            "gateway_slow_schema_checks",
            "Payloads whose schema was checked in a process of its own.",
            ("topic",),
        )

    def published(self, topic: str, producer_id: int, payload_bytes: int, seconds: float) -> None:
        """Count a published message."""
        producer = str(producer_id)
        self._msg_in.labels(topic, producer).inc()
        self._bytes_in.labels(topic, producer).inc(payload_bytes)
        self._publish_s.labels(producer).observe(seconds)

    def delivered(self, topic: str, consumer_id: int, messages: int, total_bytes: int) -> None:
        """Count delivered messages."""
        consumer = str(consumer_id)
        self._msg_out.labels(topic, consumer).inc(messages)
        self._bytes_out.labels(topic, consumer).inc(total_bytes)
