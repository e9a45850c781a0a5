"""The topic-owner process: serves the bundles that are assigned to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic import Field

from danube_common.cluster.catalogue import Catalogue
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.ports import open_ports
from danube_common.runtime.registration import Registration, presence
from danube_common.runtime.service import Runtime
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.load_reporter import LoadReporter
from danube_topic_owner.owner_metrics import OwnerMetrics
from danube_topic_owner.ownership import Ownership

SERVICE: Final = "topic-owner"
HANDOVER_S_MAX: Final = 3.0
"""Limit of the orderly handover of all bundles at the end; bundles left then are given up at once."""


class TopicOwnerConfig(ServiceConfig):
    """Configuration of a topic-owner: bounds of the unacknowledged messages of one consumer."""

    window_messages: int = Field(
        default=1000, ge=1, le=100_000, description="unacknowledged messages per consumer of a reliable topic"
    )
    window_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="the same in bytes; one message always passes"
    )


@asynccontextmanager
async def start(runtime: Runtime, config: TopicOwnerConfig) -> AsyncIterator[None]:
    """Run a topic-owner until the context ends."""
    async with open_ports(runtime, config, metadata_vital=False) as ports:
        catalogue = await Catalogue.open(ports.metadata)
        metrics = OwnerMetrics(runtime.metrics, runtime.instance_id)
        registration = Registration()
        ownership = Ownership(
            runtime.instance_id,
            ports,
            catalogue,
            registration=registration,
            window=Window(messages=config.window_messages, bytes=config.window_bytes),
            metrics=metrics,
        )
        for topics in (metrics.topics, metrics.topics_owned):
            topics.labels(runtime.instance_id).set_function(
                lambda: sum(catalogue.topic_count(bundle) for bundle in ownership.owners)
            )
        await ownership.open()
        runtime.add_check("bundles", lambda: _unserved(ownership))
        running = runtime.spawn(ownership.run(), "ownership")
        reporter = LoadReporter(
            runtime.instance_id, ports.metadata, catalogue, lambda: ownership.owners, metrics
        )
        reporting = runtime.spawn(reporter.run(), "load reports")
        try:
            async with presence(runtime, ports.metadata, registration=registration, vital=False):
                yield
                # The instance stays registered until its cursors are journaled.
                reporting.cancel()
                ownership.leave()
                await asyncio.wait((running,), timeout=HANDOVER_S_MAX)
        finally:
            reporting.cancel()
            running.cancel()
            await ownership.close()
            await catalogue.close()


def _unserved(ownership: Ownership) -> str | None:
    missing = ownership.missing()
    return f"not served yet: {', '.join(map(str, missing))}" if missing else None
