"""Storage instances over one bus that lose disks and bytes, and make their segments whole again."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from danube_common.archive.records import SegmentRecord
from danube_common.bus.port import Subscription
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, Topic, encode_record
from danube_common.log.port import LogEntry
from danube_common.metadata.lease import Lease
from danube_common.model.strategy import StorageBackend
from danube_common.runtime.metrics import Metrics
from danube_common.wire.archive import ARCHIVE, storage_subject
from danube_common.wire.frame import encode_frame
from danube_common.wire.repair import REPAIR, repair_subject
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.archive_harness import BUNDLE, DISK, PATIENCE_S, ArchiveHarness, read_segment
from danube_harness.services.fake_storage import archive
from danube_storage.archive.session import ArchivePorts, ArchiveSession
from danube_storage.archive.sweep import Sweep
from danube_storage.reading.metrics import ReadingMetrics
from danube_storage.reading.recheck import Recheck
from danube_storage.reading.requests import ReadRequests
from danube_storage.reading.verification import MISSING
from danube_storage.repair.copier import SegmentCopier
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.pace import BytePace
from danube_storage.repair.repair import Repair
from danube_storage.repair.scrub import Scrub
from danube_storage.retention.plan import marked
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.file_system import LocalFileSystem
from danube_storage.segments.stores import Stores
from danube_topic_owner.catchup.history import History

ABSENT_S = 0.2
PERIOD_S = 3600.0
MESSAGES = 60
TEXTS = [b"%05d" % number * 40 for number in range(MESSAGES)]


class StorageInstance:
    """A storage instance without its process: its disk, its reader, its copier and its scrub."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.root = site.directory / name
        self.metrics = Metrics("storage", name)
        self.repair_metrics = RepairMetrics(self.metrics)
        self._serving: list[Subscription] = []

    async def start(self) -> None:
        harness = self.site.harness
        self.disk = DiskStore(self.root)
        self.stores = Stores({StorageBackend.DISK: self.disk})
        self.ports: ArchivePorts = harness.ports(self.name, self.stores)
        self.reading = ReadRequests(
            self.stores.of, harness.metadata, self.name, ReadingMetrics(Metrics("storage", self.name))
        )
        self.copier = SegmentCopier(
            harness.bus, self.disk, self.reading, self.name, self.repair_metrics, BytePace(0)
        )
        self.scrub = Scrub(self.ports, self.reading, self.repair_metrics, period_s=PERIOD_S, pace=BytePace(0))
        for subject, handler in (
            (storage_subject(self.name), ARCHIVE.handler(self.reading.answer)),
            (repair_subject(self.name), REPAIR.handler(self.copier.answer)),
        ):
            self._serving.append(await harness.bus.serve(subject, handler))
        instance = Instance(self.name, "storage", "", backends=("disk",))
        await harness.metadata.put(keys.instance_key(self.name), encode_record(instance))

    async def stop(self) -> None:
        if not self._serving:
            return
        await self.site.harness.metadata.delete(keys.instance_key(self.name))
        for subscription in self._serving:
            await subscription.close()
        self._serving.clear()
        await self.copier.close()
        await self.reading.close()
        await self.disk.close()

    async def lose_disk(self) -> None:
        await self.stop()
        shutil.rmtree(self.root)

    async def holds(self, record: SegmentRecord) -> bool:
        """Whether its copy is intact."""
        return bool(await read_segment(self.disk, record.key))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"danube_{name}", labels) or 0.0


class Site:
    """One bundle with three segments, each on two of the instances."""

    def __init__(self, harness: ArchiveHarness, directory: Path, stack: AsyncExitStack) -> None:
        self.harness = harness
        self.directory = directory
        self.stack = stack
        self.instances: dict[str, StorageInstance] = {}
        self.topic: Topic

    async def start(self, *names: str) -> None:
        for name in names:
            self.instances[name] = StorageInstance(self, name)
            await self.instances[name].start()
            self.stack.push_async_callback(self.instances[name].stop)

    async def seal(self, *holders: str) -> None:
        """Archive all messages in three entries, with copies on ``holders``."""
        self.topic = await self.harness.topic("t", DISK)
        for start in range(0, MESSAGES, 20):
            entries = [
                LogEntry(start + number + 1, encode_frame(1, number, [(self.topic.topic_id, [text])]), 1)
                for number, text in enumerate(TEXTS[start : start + 20])
            ]
            first, *others = (self.instances[name] for name in holders)
            sealed = await archive(self.harness.manifest, first.disk, entries, holders=holders, shared=set())
            for record in sealed.segments:
                for other in others:
                    shutil.copytree(first.root, other.root, dirs_exist_ok=True)
                    assert await other.holds(record)

    @property
    def segments(self) -> list[SegmentRecord]:
        return [record for entry in self.harness.manifest.all() for record in entry.segments]

    async def repair(self, name: str, replicas: int = 2) -> ArchiveSession:
        """Let one instance decide for the bundle."""
        lease = await Lease.acquire(
            self.harness.metadata, keys.archiver_key(BUNDLE), name.encode(), PATIENCE_S, expected_revision=0
        )
        instance = self.instances[name]
        session = ArchiveSession(BUNDLE, instance.ports, lease, self.harness.manifest)
        repair = Repair(instance.repair_metrics, replicas=replicas, absent_s=ABSENT_S)
        task = asyncio.create_task(repair.repair(session))

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await lease.release()

        self.stack.push_async_callback(end)
        return session

    async def until(self, matches: Callable[[SegmentRecord], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not all(matches(record) for record in self.segments):  # noqa: ASYNC110 - a view
                await asyncio.sleep(0.01)

    async def texts(self) -> list[bytes]:
        """Everything, as a topic owner reads it."""
        history = History(self.harness.bus, self.harness.catalogue, self.harness.manifest)
        found: list[bytes] = []
        position = 0
        try:
            while (batch := await history.read(self.topic, position, bytes_max=2000)).entries:
                found += [entry.section.message(0) for entry in batch.entries]
                position = batch.next_position
        finally:
            await history.close()
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        harness = await ArchiveHarness.open(MemoryBus(MemoryHub()), MemoryLog(), MemoryMetadata())
        stack.push_async_callback(harness.close)
        yield Site(harness, tmp_path, stack)


async def check_whole(site: Site, *holders: str) -> None:
    """Every segment is on exactly these instances, and every byte of it is right."""
    for record in site.segments:
        assert (set(record.holders), record.quarantined, record.copying) == (set(holders), {}, ())
        for name in holders:
            assert await site.instances[name].holds(record)


async def test_a_lost_disk_is_copied_anew_to_the_others_while_readers_go_on(site: Site) -> None:
    await site.start("1", "2", "3")
    await site.seal("1", "2")
    await site.repair("1")
    await site.instances["2"].lose_disk()
    done = asyncio.create_task(site.until(lambda record: set(record.holders) == {"1", "3"}))
    reads = 0
    while not done.done():
        assert await site.texts() == TEXTS
        reads += 1
        await asyncio.sleep(0)
    await done
    assert reads > 1
    await check_whole(site, "1", "3")
    assert await site.texts() == TEXTS
    assert site.instances["3"].count("storage_copies_total") == 3
    assert site.instances["1"].count("storage_short_segments", bundle="f0") == 0


async def test_an_instance_that_returns_after_it_was_replaced_deletes_its_copies(site: Site) -> None:
    await site.start("1", "2", "3")
    await site.seal("1", "2")
    await site.repair("1")
    returning = site.instances["2"]
    await returning.stop()
    await site.until(lambda record: set(record.holders) == {"1", "3"})
    await returning.start()
    assert len(await returning.disk.list("f0/")) == 3
    sweep = Sweep(site.harness.metadata, returning.ports.metrics)
    await sweep.sweep(BUNDLE, returning.disk, StorageBackend.DISK, "2")
    assert await returning.disk.list("f0/") == []
    await check_whole(site, "1", "3")


async def test_an_instance_that_returns_with_an_empty_disk_gets_its_copies_again(site: Site) -> None:
    await site.start("1", "2")
    await site.seal("1", "2")
    await site.repair("1")
    await site.instances["2"].lose_disk()
    await site.instances["2"].start()
    assert await site.instances["2"].scrub.find_missing() == 3
    assert await site.texts() == TEXTS
    await site.until(lambda record: not record.quarantined)
    await check_whole(site, "1", "2")
    assert await site.instances["2"].scrub.find_missing() == 0


async def test_an_instance_forgets_the_damage_of_copies_that_were_replaced(site: Site) -> None:
    await site.start("1", "2", "3")
    await site.seal("1", "2")
    returning = site.instances["2"]
    entry = site.harness.manifest.all()[0]
    await returning.reading.quarantine.put(entry.locator(entry.segments[0]), "bad")
    await site.repair("1")
    await site.harness.metadata.delete(keys.instance_key("2"))
    await site.until(lambda record: set(record.holders) == {"1", "3"})
    await returning.disk.delete(entry.segments[0].key)
    assert len(returning.reading.quarantine) == 1
    await Recheck(returning.reading, returning.stores).run_pass()
    assert len(returning.reading.quarantine) == 0
    await check_whole(site, "1", "3")


async def test_a_rotten_byte_in_a_segment_that_nobody_reads_is_found_and_mended(site: Site) -> None:
    await site.start("1", "2")
    await site.seal("1", "2")
    rotten = site.segments[1]
    path = site.instances["2"].root / rotten.key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not await site.instances["2"].scrub.run_pass()
    await site.until(lambda record: (record.key == rotten.key) == ("2" in record.quarantined))
    assert site.instances["2"].count("storage_scrub_damaged_total", backend="disk") == 1
    assert site.instances["2"].count("storage_scrubbed_segments_total", backend="disk") == 3
    await site.repair("1")
    await site.until(lambda record: not record.quarantined)
    await check_whole(site, "1", "2")


async def test_the_scrub_reads_from_the_device_and_not_from_the_cache(site: Site) -> None:
    steps: list[tuple[str, str]] = []

    class Recording(LocalFileSystem):
        def evict(self, path: Path) -> None:
            steps.append(("evict", path.name))
            super().evict(path)

        def read(self, path: Path, offset: int, length: int) -> bytes:
            steps.append(("read", path.name))
            return super().read(path, offset, length)

    await site.start("1")
    await site.seal("1")
    instance = site.instances["1"]
    disk = DiskStore(instance.root, file_system=Recording())
    ports = dataclasses.replace(instance.ports, stores=Stores({StorageBackend.DISK: disk}))
    await Scrub(
        ports, instance.reading, instance.repair_metrics, period_s=PERIOD_S, pace=BytePace(0)
    ).run_pass()
    await disk.close()
    first_steps: dict[str, str] = {}
    for step, name in steps:
        first_steps.setdefault(name, step)
    assert first_steps == {Path(record.key).name: "evict" for record in site.segments}


async def test_a_source_that_turns_out_damaged_is_marked_and_another_is_copied(site: Site) -> None:
    await site.start("1", "2", "3", "4")
    await site.seal("1", "2", "3")
    for record in site.segments:
        path = site.instances["1"].root / record.key
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    await site.instances["3"].lose_disk()
    await site.repair("2", replicas=3)
    await site.until(lambda record: set(record.holders) == {"1", "2", "4"} and not record.quarantined)
    await check_whole(site, "1", "2", "4")


async def test_segments_without_a_usable_copy_are_told_and_kept(site: Site) -> None:
    await site.start("1", "2")
    await site.seal("2")
    session = await site.repair("1", replicas=1)
    await site.instances["2"].stop()
    async with asyncio.timeout(PATIENCE_S):
        while "copies" not in session.problems:  # noqa: ASYNC110 - readiness is asked for
            await asyncio.sleep(0.01)
    assert "segments without a usable copy: " in session.problems["copies"]
    assert site.segments[0].key in session.problems["copies"]
    assert site.instances["1"].count("storage_lost_segments", bundle="f0") == 3
    assert all(record.holders == ("2",) for record in site.segments)
    await site.instances["2"].start()
    async with asyncio.timeout(PATIENCE_S):
        while "copies" in session.problems:  # noqa: ASYNC110 - readiness is asked for
            await asyncio.sleep(0.01)
    assert await site.texts() == TEXTS


async def test_the_scrub_goes_on_after_a_restart_where_it_was(site: Site) -> None:
    await site.start("1")
    await site.seal("1")
    instance = site.instances["1"]
    await instance.scrub.run_pass()
    assert instance.count("storage_scrubbed_segments_total", backend="disk") == 3
    again = Scrub(
        instance.ports, instance.reading, instance.repair_metrics, period_s=PERIOD_S, pace=BytePace(0)
    )
    await again.run_pass()
    assert instance.count("storage_scrubbed_segments_total", backend="disk") == 3
    assert instance.count("storage_scrub_lag_seconds") < PATIENCE_S


async def test_what_is_missing_and_deleted_meanwhile_is_no_damage(site: Site) -> None:
    await site.start("1")
    await site.seal("1")
    entry = site.harness.manifest.all()[0]
    (record,) = entry.segments
    (site.instances["1"].root / record.key).unlink()
    await site.harness.manifest.change(entry, partial(marked, keys={record.key}, delete_after_ms=1))
    await site.instances["1"].reading.quarantine.put(entry.locator(record), MISSING)
    assert await site.instances["1"].scrub.find_missing() == 0
    await site.harness.manifest.refresh()
    assert site.segments[0].quarantined == {}
