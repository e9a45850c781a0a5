"""The archiver of one bundle over ports in memory."""

from __future__ import annotations

import asyncio

from danube_common.cluster import keys
from danube_common.log.port import LogEntry
from danube_common.metadata.lease import Lease
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.archive_harness import BUNDLE, ArchiveHarness
from danube_storage.archive.archiver import Archiver
from danube_storage.archive.seal_rules import SealRules
from danube_storage.archive.session import ArchiveSession
from danube_storage.segments.stores import Stores

MESSAGE = bytes(100 << 10)
FRAMES_PER_SEGMENT = 10


class CountingLog(MemoryLog):
    """A log that records where each read begins."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        self.reads.append(from_sequence)
        return await super().read(bundle, from_sequence, frames_max=frames_max, bytes_max=bytes_max)


async def test_each_frame_is_read_once_where_a_small_topic_fills_its_segment_before_a_large_one() -> None:
    log = CountingLog()
    harness = await ArchiveHarness.open(MemoryBus(MemoryHub()), log, MemoryMetadata())
    small = await harness.topic("small", _topic_of(segment_size_mb=1))
    large = await harness.topic("large", _topic_of(segment_size_mb=64))
    lease = await Lease.acquire(harness.metadata, keys.archiver_key(BUNDLE), b"7", 60)
    stores = Stores({StorageBackend.DISK: MemoryStore()})
    session = ArchiveSession(BUNDLE, harness.ports("7", stores), lease, harness.manifest)
    archiver = Archiver(SealRules(seal_bytes_max=64 << 20), seals_at_once=1, poll_s=0.001)
    archiving = asyncio.create_task(archiver.archive(session))
    try:
        for segment in (1, 2, 3):
            for _ in range(FRAMES_PER_SEGMENT + 1):
                await harness.publish((small, [MESSAGE]), (large, [MESSAGE]))
            await harness.archived(segment * FRAMES_PER_SEGMENT)
    finally:
        archiving.cancel()
        await asyncio.gather(archiving, return_exceptions=True)
    assert log.reads == sorted(set(log.reads)), "a log range was read again"
    assert len(harness.manifest.all()) == 3
    await harness.check(stores)
    await lease.release()
    await harness.close()


def _topic_of(segment_size_mb: int) -> Strategy:
    return Strategy(ReliableOptions(storage=StorageBackend.DISK, segment_size_mb=segment_size_mb))
