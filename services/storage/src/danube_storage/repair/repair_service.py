"""Serves copies of segments to other instances, and verifies the own ones, while its context is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from danube_common.runtime.service import Runtime
from danube_common.wire.repair import REPAIR, repair_subject
from danube_storage.archive.session import ArchivePorts
from danube_storage.reading.requests import ReadRequests
from danube_storage.repair.copier import SegmentCopier
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.pace import BytePace
from danube_storage.repair.scrub import Scrub

REQUESTS_AT_ONCE_MAX = 64


@asynccontextmanager
async def serve_repair(
    runtime: Runtime,
    ports: ArchivePorts,
    reading: ReadRequests,
    metrics: RepairMetrics,
    *,
    copy_bytes_per_s: int,
    scrub_period_s: float,
    scrub_bytes_per_s: int,
) -> AsyncIterator[None]:
    """Serve until the context ends. Raises BusUnavailable.

    Args:
        runtime: of the process.
        ports: of this instance.
        reading: the reader of this instance, with its quarantine.
        metrics: of this package.
        copy_bytes_per_s: the most bytes a second that are copied to this instance.
        scrub_period_s: in which every segment is verified once.
        scrub_bytes_per_s: the most bytes a second that are read for that.
    """
    pace = BytePace(copy_bytes_per_s)
    copier = SegmentCopier(ports.bus, ports.stores.disk, reading, ports.instance_id, metrics, pace)
    pace = BytePace(scrub_bytes_per_s)
    scrub = Scrub(ports, reading, metrics, period_s=scrub_period_s, pace=pace)
    serving = await ports.bus.serve(
        repair_subject(ports.instance_id),
        REPAIR.handler(copier.answer),
        concurrent_max=REQUESTS_AT_ONCE_MAX,
    )
    tasks = (runtime.spawn(scrub.run(), "scrub"), runtime.spawn(scrub.watch_missing(), "missing segments"))
    try:
        yield
    finally:
        await serving.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await copier.close()
