from __future__ import annotations

from prometheus_client import Counter, Gauge

from danube_admin_service.console.live.scrape import Flow, Lag, parse
from danube_common.runtime.metrics import Metrics

STRANGE = 'a "quoted" \\ name\nof two lines'


def test_what_a_process_renders_is_read_back_whatever_stands_in_its_labels() -> None:
    metrics = Metrics("gateway", "1")
    messages = metrics.counter("topic_msg_in_counter", "", ("topic", "producer"), suffix=False)
    messages.labels(STRANGE, "1").inc(2)
    messages.labels(STRANGE, "2").inc(3)
    metrics.counter("consumer_bytes_out_counter", "", ("topic", "consumer"), suffix=False).labels(
        "t", "1"
    ).inc(7)
    metrics.gauge("subscription_lag_messages", "", ("topic", "subscription")).labels("t", "s").set(5)
    metrics.gauge("subscription_oldest_unacked_age_seconds", "", ("topic", "subscription")).labels(
        "t", "s"
    ).set(1.5)
    metrics.counter("subscription_redelivery", "", ("topic", "subscription")).labels("t", "s").inc(4)
    metrics.counter("subscription_dlq", "", ("topic", "subscription")).labels("t", "s").inc(1)
    Counter("danube_topic_other", "", registry=metrics.registry).inc()
    Gauge("other", "", registry=metrics.registry).set(1)

    found = parse(metrics.render().decode())

    assert found.flows == {STRANGE: Flow(messages_in=5), "t": Flow(bytes_out=7)}
    assert found.lags == {("t", "s"): Lag(5, 1.5, 4, 1)}
    assert found.cpu_s > 0
    assert found.memory_bytes > 0


def test_what_is_no_metric_is_passed_over() -> None:
    assert parse("danube_topic_ nonsense { 1\nprocess_\n\n# HELP x\n").flows == {}
