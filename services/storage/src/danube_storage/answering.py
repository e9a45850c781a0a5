"""Answering readers for as long as the process lives, and telling what is damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from danube_common.archive.protocol import storage_subject
from danube_common.bus.port import Bus
from danube_common.metadata.port import MetadataStore
from danube_common.runtime.service import Runtime
from danube_common.segment.port import SegmentStore
from danube_common.strategy import StorageBackend
from danube_storage.reading import REQUESTS_AT_ONCE_MAX, Reading
from danube_storage.reading_metrics import ReadingMetrics
from danube_storage.recheck import Recheck


@asynccontextmanager
async def answering_readers(
    runtime: Runtime,
    bus: Bus,
    metadata: MetadataStore,
    store_of: Callable[[StorageBackend], SegmentStore],
    backends: frozenset[StorageBackend],
) -> AsyncIterator[Reading]:
    """Readiness tells of damaged segments and does not depend on them. Raises BusUnavailable."""
    reading = Reading(store_of, metadata, runtime.instance_id, ReadingMetrics(runtime.metrics))
    runtime.add_check("segments", lambda: reading.quarantine.problem, vital=False)
    serving = await bus.serve(
        storage_subject(runtime.instance_id), reading.serve, concurrent_max=REQUESTS_AT_ONCE_MAX
    )
    rechecking = runtime.spawn(Recheck(reading, store_of, backends).run(), "recheck")
    try:
        yield reading
    finally:
        rechecking.cancel()
        await serving.close()
        await reading.close()
