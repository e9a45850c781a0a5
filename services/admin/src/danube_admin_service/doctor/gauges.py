"""What the leading admin instance sees of the cluster, as metrics that alerts are made of."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import prometheus_client
import structlog

from danube_admin_service.doctor.look import Look
from danube_admin_service.doctor.rules import Facts, Severity, examine
from danube_common.errors import Unavailable
from danube_common.runtime.metrics import Family, Metrics

INTERVAL_S: Final = 30.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")

Series = Mapping[Any, float]
"""Values by labels, a tuple of texts."""


class _Shown:
    """One metric whose series are those of the last look."""

    def __init__(self, family: Family[prometheus_client.Gauge]) -> None:
        self._family = family
        self._series: set[Any] = set()

    def show(self, series: Series) -> None:
        for gone in self._series - series.keys():
            self._family.remove(*gone)
        for labels, value in series.items():
            self._family.labels(*labels).set(value)
        self._series = set(series)


class ClusterGauges:
    """Looks every INTERVAL_S while this instance leads; otherwise there are no series.

    Args:
        metrics: of this process.
        look: at the cluster.
        leading: whether this instance leads.
    """

    def __init__(self, metrics: Metrics, look: Look, leading: Callable[[], bool]) -> None:
        self._look = look
        self._leading = leading
        process, stream = ("service", "instance"), ("stream",)
        self._unowned = metrics.plain_gauge(
            "cluster_unowned_bundles", "Bundles that no topic owner serves, as the leader sees it."
        )
        families = {
            "findings": metrics.gauge(
                "cluster_findings",
                "What danube-admin doctor finds, but for subscriptions.",
                ("check", "severity"),
            ),
            "clock": metrics.gauge(
                "cluster_clock_ahead_seconds", "How far a clock is ahead of the leader's.", process
            ),
            "certificate": metrics.gauge(
                "cluster_certificate_expires_seconds", "When a certificate expires, since the epoch.", process
            ),
            "disk": metrics.gauge("cluster_disk_free_bytes", "Room where segments are.", process),
            "bytes": metrics.gauge("cluster_stream_bytes", "What a stream of JetStream has.", stream),
            "bytes_max": metrics.gauge("cluster_stream_bytes_max", "What it may have.", stream),
            "replicas_away": metrics.gauge(
                "cluster_stream_replicas_away", "Its replicas that are offline or behind.", stream
            ),
        }
        self._shown = {name: _Shown(family) for name, family in families.items()}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                _log.warning("cluster_not_looked_at", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Show what is seen now. Raises MetadataUnavailable."""
        facts = await self._look.facts(topics_max=0) if self._leading() else None
        self._unowned.set(len(facts.unowned) if facts is not None else 0)
        series = series_of(facts) if facts is not None else {}
        for name, shown in self._shown.items():
            shown.show(series.get(name, {}))


def series_of(facts: Facts) -> dict[str, Series]:
    """Return the series of each metric. Pure."""
    wrong = [one for one in examine(facts) if one.severity > Severity.UNSEEN]
    seen = {(one.kind, one.instance_id): one for one in facts.processes}
    streams = {(one.name,): one for one in facts.streams}
    return {
        "findings": Counter((one.check, one.severity.name.lower()) for one in wrong),
        "clock": {
            of: one.clock_ahead_ms / 1000 for of, one in seen.items() if one.clock_ahead_ms is not None
        },
        "certificate": {
            of: one.certificate_expires_ms / 1000
            for of, one in seen.items()
            if one.certificate_expires_ms is not None
        },
        "disk": {of: one.disk_free_bytes for of, one in seen.items() if one.disk_free_bytes is not None},
        "bytes": {of: one.size_bytes for of, one in streams.items()},
        "bytes_max": {of: one.bytes_max for of, one in streams.items() if one.bytes_max > 0},
        "replicas_away": {of: one.replicas_away for of, one in streams.items()},
    }
