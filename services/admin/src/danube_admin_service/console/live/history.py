"""The charts of a page: the last hour of some topics, or of all."""

from __future__ import annotations

import time
from collections.abc import Sequence

from danube_admin_service.console.live import activity, prometheus
from danube_admin_service.console.live.charts import bytes_chart, messages_chart
from danube_admin_service.console.sources import Sources


async def charts(sources: Sources, topics: Sequence[str] | None = None) -> dict[str, object]:
    """Return what a page needs to draw them; from Prometheus, or where it does not answer from memory."""
    told = None
    if sources.prometheus is not None:
        told = await sources.prometheus.history(topics, time.time())
    history, samples_max = (
        (told, prometheus.SAMPLES_MAX)
        if told is not None
        else (sources.activity.history(topics), activity.SAMPLES_MAX)
    )
    return {
        "charts": (messages_chart(history, samples_max), bytes_chart(history, samples_max)),
        "charts_missing": sources.prometheus is not None and told is None,
    }
