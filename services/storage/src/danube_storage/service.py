"""The storage process of today: present in the cluster, reachable, observable; tier 2 is not built yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.ports import open_ports
from danube_common.runtime.presence import presence
from danube_common.runtime.service import Runtime

SERVICE: Final = "storage"
PING_SUBJECT: Final = "danube.storage.ping"


class StorageConfig(ServiceConfig):
    """Nothing of its own yet."""


@asynccontextmanager
async def start(runtime: Runtime, config: StorageConfig) -> AsyncIterator[None]:
    """Be present and answer pings with the instance id, until stopped."""
    pings = runtime.metrics.plain_counter("storage_pings", "Pings answered.")

    async def ping(_request: bytes) -> bytes:
        pings.inc()
        return runtime.instance_id.encode()

    async with open_ports(runtime, config) as ports, presence(runtime, ports.metadata):
        answering = await ports.bus.serve(PING_SUBJECT, ping)
        yield
        await answering.close()
