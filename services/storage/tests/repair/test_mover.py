"""A store that does not answer, and the topics of the other stores of its bundle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from danube_common.archive.records import SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_common.errors import StoreFull, StoreUnavailable
from danube_common.metadata.lease import Lease
from danube_common.model.strategy import StorageBackend
from danube_common.runtime.metrics import Metrics
from danube_common.wire.repair import (
    REPAIR,
    CopyProgress,
    CopySegment,
    RepairRequest,
    repair_subject,
)
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.archive_harness import BUNDLE, DISK, PATIENCE_S, S3, ArchiveHarness
from danube_storage.archive.archiver import Archiver
from danube_storage.archive.seal_rules import SealRules
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.sweep import Sweep
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.mover import SegmentMover
from danube_storage.repair.pace import BytePace
from danube_storage.segments.stores import Stores

AWAY_S = 0.1
RULES = SealRules(seal_age_s=1.0, own_segment_bytes_min=500, store_away_s=AWAY_S)


class MoodyStore(MemoryStore):
    """A store that takes nothing while ``away``."""

    away = False

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        if self.away:
            raise StoreUnavailable("it is away")
        await super().put(key, chunks)


class FullStore(MoodyStore):
    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        if self.away:
            raise StoreFull("there is no room")
        await super().put(key, chunks)


class Scene:
    """A bundle with topics on disk and in S3, archived by instance 7."""

    def __init__(self, harness: ArchiveHarness, session: ArchiveSession, stores: Stores) -> None:
        self.harness = harness
        self.session = session
        self.stores = stores

    @property
    def segments(self) -> list[SegmentRecord]:
        return [record for entry in self.harness.manifest.all() for record in entry.segments]

    async def until(self, matches: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not matches():  # noqa: ASYNC110 - a view
                await asyncio.sleep(0.01)


@asynccontextmanager
async def archived_bundle(disk: MemoryStore, s3: MemoryStore, replicas: int = 1) -> AsyncIterator[Scene]:
    harness = await ArchiveHarness.open(MemoryBus(MemoryHub()), MemoryLog(), MemoryMetadata())
    await harness.metadata.put(
        keys.instance_key("7"), encode_record(Instance("7", "storage", "", backends=("disk", "s3")))
    )
    lease = await Lease.acquire(harness.metadata, keys.archiver_key(BUNDLE), b"7", 60)
    stores = Stores({StorageBackend.DISK: disk, StorageBackend.S3: s3})
    session = ArchiveSession(BUNDLE, harness.ports("7", stores), lease, harness.manifest)
    metrics = RepairMetrics(Metrics("storage", "7"))
    tasks = (
        asyncio.create_task(Archiver(RULES, seals_at_once=1, poll_s=0.01).archive(session)),
        asyncio.create_task(
            SegmentMover(metrics, BytePace(0), replicas=replicas, interval_s=0.02).move(session)
        ),
    )
    try:
        yield Scene(harness, session, stores)
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await lease.release()
        await harness.close()


async def check_that_topics_go_on(away: MoodyStore, kind: StorageBackend, scene: Scene) -> None:
    """Both an own and a shared segment of the store that is away wait in the other one, then go home."""
    harness = scene.harness
    large = await harness.topic("large", S3 if kind is StorageBackend.S3 else DISK)
    small = await harness.topic("small", large.strategy)
    other = await harness.topic("other", DISK if kind is StorageBackend.S3 else S3)
    away.away = True
    last = await harness.publish((large, [b"m" * 300] * 3), (small, [b"s"]), (other, [b"o" * 600]))
    await harness.archived(last)
    await harness.purged(last)
    waiting = [record for record in scene.segments if record.bound_for is not None]
    assert {(record.bound_for, record.topic_id) for record in waiting} == {(kind, large.topic_id), (kind, 0)}
    assert all(record.backend is not kind for record in scene.segments)
    (entry,) = harness.manifest.all()
    assert [len(entry.segments_for(topic)) for topic in (large, small, other)] == [1, 1, 1]
    assert not {record.key for record in entry.segments_for(small)} & {
        record.key for record in entry.segments_for(other)
    }
    await harness.check(scene.stores)
    await scene.until(lambda: "2 segments wait" in scene.session.problems.get("moving", ""))
    away.away = False
    await scene.until(lambda: all(record.bound_for is None for record in scene.segments))
    assert sum(record.backend is kind for record in scene.segments) == 2
    await scene.until(lambda: "moving" not in scene.session.problems)
    await harness.check(scene.stores)
    sweep = Sweep(harness.metadata, scene.session.ports.metrics)
    for backend, instance_id in ((StorageBackend.DISK, "7"), (StorageBackend.S3, "")):
        store = scene.stores.of(backend)
        await sweep.sweep(BUNDLE, store, backend, instance_id)
        named = {record.key for record in scene.segments if record.backend is backend}
        assert set(await store.list("")) == named
    last = await harness.publish((small, [b"later"]))
    await harness.archived(last)
    assert scene.segments[-1].bound_for is None
    await harness.check(scene.stores)


async def test_while_s3_is_away_topics_on_disk_go_on_and_those_in_s3_wait_on_disk() -> None:
    s3 = MoodyStore()
    async with archived_bundle(MemoryStore(), s3) as scene:
        await check_that_topics_go_on(s3, StorageBackend.S3, scene)


async def test_while_the_disk_is_full_topics_in_s3_go_on_and_those_on_disk_wait_in_s3() -> None:
    disk = FullStore()
    async with archived_bundle(disk, MemoryStore()) as scene:
        await check_that_topics_go_on(disk, StorageBackend.DISK, scene)


async def test_segments_do_not_leave_s3_for_fewer_copies_on_disk_than_are_wanted() -> None:
    disk = FullStore()
    async with archived_bundle(disk, MemoryStore(), replicas=2) as scene:
        harness = scene.harness
        topic = await harness.topic("t", DISK)
        disk.away = True
        await harness.archived(await harness.publish((topic, [b"m"])))
        disk.away = False
        await scene.until(lambda: "2 copies are wanted" in scene.session.problems.get("moving", ""))
        assert scene.segments[0].backend is StorageBackend.S3
        asked: list[SegmentRecord] = []

        async def copy(request: RepairRequest) -> msgspec.Struct:
            assert isinstance(request, CopySegment)
            assert request.sources == ("7",)
            await harness.manifest.refresh()
            asked.extend(scene.segments)
            return CopyProgress(done=len(asked) > 1)

        serving = await harness.bus.serve(repair_subject("8"), REPAIR.handler(copy))
        await harness.metadata.put(keys.instance_key("8"), encode_record(Instance("8", "storage", "")))
        await scene.until(lambda: scene.segments[0].backend is StorageBackend.DISK)
        assert [(one.backend, one.copying) for one in asked] == [(StorageBackend.S3, ("8",))] * 2
        assert scene.segments[0].holders == ("7", "8")
        await harness.check(scene.stores)
        await serving.close()
