from __future__ import annotations

import pytest

from danube_harness.services.owner_harness import SHARED, Gateway, OwnerHarness


@pytest.mark.usefixtures("owner")
async def test_open_streams_are_counted_by_the_names_of_today_s_danube_too(
    harness: OwnerHarness, gateway: Gateway
) -> None:
    await harness.topic("/default/t")
    for name in ("a", "b"):
        consumer = await gateway.subscribe("/default/t", name, SHARED)
        await gateway.attach(consumer)
    metrics = harness.metrics
    for gauge in (metrics.consumers, metrics.active_consumers):
        assert gauge.labels("/default/t")._value.get() == 2
    assert metrics.subscription_consumers.labels("/default/t", "a")._value.get() == 1
