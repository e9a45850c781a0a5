from __future__ import annotations

import pytest

from danube_common.runtime.metrics import Metrics
from danube_gateway import gateway_metrics
from danube_gateway.gateway_metrics import GatewayMetrics


def test_what_was_delivered_is_in_the_metrics_whenever_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_metrics, "DELIVERED_MAX", 2)
    metrics = Metrics("gateway", "1")
    counts = GatewayMetrics(metrics)
    for consumer in (1, 2, 3, 1):
        counts.delivered("/default/t", consumer, 2, 100)
    for times in (1, 2):
        rendered = metrics.render().decode()
        for consumer, messages in ((1, 4), (2, 2), (3, 2)):
            labels = f'{{consumer="{consumer}",topic="/default/t"}}'
            assert f"danube_consumer_msg_out_counter{labels} {messages * times}.0\n" in rendered
            assert f"danube_consumer_bytes_out_counter{labels} {messages * times * 50}.0\n" in rendered
        for consumer in (1, 2, 3, 1):
            counts.delivered("/default/t", consumer, 2, 100)
