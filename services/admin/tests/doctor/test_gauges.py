"""The leader tells as metrics what alerts are made of; who does not lead tells nothing."""

from __future__ import annotations

from typing import cast

from danube_admin_service.doctor.gauges import ClusterGauges
from danube_admin_service.doctor.look import Look
from danube_admin_service.doctor.rules import Facts, ProcessFacts, StreamFacts
from danube_common.runtime.metrics import Metrics

SEEN = Facts(
    0,
    "1",
    processes=(
        ProcessFacts("gateway", "7", "http://h", "1", clock_ahead_ms=-1500, certificate_expires_ms=9_000),
        ProcessFacts("storage", "8", "http://h"),
    ),
    unowned=["f0", "f1"],
    streams=(StreamFacts("DANUBE_JOURNAL", 80, 100, replicas=3, replicas_away=1),),
)


async def test_the_leader_shows_what_it_sees_and_takes_it_back() -> None:
    metrics, leading, facts = Metrics("admin", "1"), [True], [SEEN]

    class Seen:
        async def facts(self, *, topics_max: int) -> Facts:
            assert topics_max == 0, "no owner is asked about its subscriptions every half minute"
            return facts[0]

    gauges = ClusterGauges(metrics, cast("Look", Seen()), lambda: leading[0])

    def told() -> dict[str, str]:
        lines = metrics.render().decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith("danube_cluster_"))

    await gauges.look()
    shown = told()
    assert shown["danube_cluster_unowned_bundles"] == "2.0"
    assert shown['danube_cluster_clock_ahead_seconds{instance="7",service="gateway"}'] == "-1.5"
    assert shown['danube_cluster_certificate_expires_seconds{instance="7",service="gateway"}'] == "9.0"
    assert shown['danube_cluster_stream_bytes{stream="DANUBE_JOURNAL"}'] == "80.0"
    assert shown['danube_cluster_stream_replicas_away{stream="DANUBE_JOURNAL"}'] == "1.0"
    assert shown['danube_cluster_findings{check="clocks",severity="warning"}'] == "1.0"
    facts[0] = Facts(0, "1")
    await gauges.look()
    assert "clocks" not in str(told())
    leading[0] = False
    await gauges.look()
    assert told() == {"danube_cluster_unowned_bundles": "0.0"}
