"""Serves read requests on the bus, and reports damaged segments, while its context is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from danube_common.bus.port import Bus
from danube_common.metadata.port import MetadataStore
from danube_common.runtime.service import Runtime
from danube_common.wire.archive import ARCHIVE, storage_subject
from danube_storage.reading.metrics import ReadingMetrics
from danube_storage.reading.recheck import Recheck
from danube_storage.reading.requests import REQUESTS_AT_ONCE_MAX, ReadRequests
from danube_storage.segments.stores import Stores


@asynccontextmanager
async def serve_reads(
    runtime: Runtime, bus: Bus, metadata: MetadataStore, stores: Stores
) -> AsyncIterator[ReadRequests]:
    """Serve until the context ends. Readiness names damaged segments but stays up. Raises BusUnavailable."""
    reading = ReadRequests(stores.of, metadata, runtime.instance_id, ReadingMetrics(runtime.metrics))
    runtime.add_check("segments", lambda: reading.quarantine.problem, vital=False)
    serving = await bus.serve(
        storage_subject(runtime.instance_id),
        ARCHIVE.handler(reading.answer),
        concurrent_max=REQUESTS_AT_ONCE_MAX,
    )
    rechecking = runtime.spawn(Recheck(reading, stores).run(), "recheck")
    try:
        yield reading
    finally:
        rechecking.cancel()
        await serving.close()
        await reading.close()
