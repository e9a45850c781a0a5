"""Log, segments and manifest against a plain list, with a crash before or after every step."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import ManifestEntry
from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, DanubeError
from danube_common.metadata.lease import Lease, LeaseClock
from danube_common.model.strategy import StorageBackend
from danube_harness.faults.crash_disk import CrashDisk, PowerCut
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.archive_harness import BUNDLE, DISK, S3, ArchiveHarness
from danube_storage.archive.seal_rules import SealRules
from danube_storage.archive.sealer import Fenced, Sealer
from danube_storage.archive.session import ArchivePorts, ArchiveSession
from danube_storage.archive.sweep import Sweep
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.stores import Stores

ROOT = Path("/segments")
RULES = SealRules(seal_bytes_max=1500, own_segment_bytes_min=400)
LEASE_S = 3600.0
STEPS_MAX = 30
"""More operations than a take-over and a seal have, so that some crashes come too late."""
FAILURE = "the test's own"


class Fuse:
    """Counts a process's operations, and ends it before or after one of them."""

    def __init__(self) -> None:
        self.left = 0
        self.after = False
        self.fails: DanubeError | None = None
        self.blown = False

    def set(self, left: int, *, after: bool, fails: DanubeError | None = None) -> None:
        """``left`` operations from now; ``fails``: not the process's end, but an error it is told."""
        self.left, self.after, self.fails, self.blown = left, after, fails, False

    async def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.blown:
            raise PowerCut
        self.left -= 1
        if self.left != 0:
            return await call()
        if self.after:
            await call()
        if self.fails is not None:
            raise self.fails
        self.blown = True
        raise PowerCut


class Fused:
    """Any port, each of whose named calls goes through the fuse."""

    def __init__(self, port: Any, fuse: Fuse, *calls: str) -> None:
        self._port = port
        self._fuse = fuse
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if name not in self._calls:
            return target
        return lambda *args, **kwargs: self._fuse.run(lambda: target(*args, **kwargs))


class ArchiveModel(RuleBasedStateMachine):
    """A bundle whose archiver dies and comes back; a paused one wakes up beside its successor."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.topics: list[Topic] = []
        self.fuse = Fuse()
        self.disk = CrashDisk()
        self.disk_stores: list[DiskStore] = []
        self.s3 = MemoryStore()
        self.zombies: list[Sealer] = []
        self.views: list[Manifest] = []
        self.number = 0

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    @initialize()
    def start(self) -> None:
        async def open_owner_harness() -> ArchiveHarness:
            log = MemoryLog()
            harness = await ArchiveHarness.open(MemoryBus(MemoryHub()), log, MemoryMetadata())
            for name, strategy in (("disk", DISK), ("disk2", DISK), ("s3", S3)):
                self.topics.append(await harness.topic(name, strategy))
            return harness

        self.harness: ArchiveHarness = self.run(open_owner_harness())
        self.sealer: Sealer = self.run(self.new_archiver())

    def stores(self, fuse: Fuse | None) -> Stores:
        disk = DiskStore(ROOT, file_system=self.disk, io_threads=1)
        self.disk_stores.append(disk)
        if fuse is None:
            return Stores({StorageBackend.DISK: disk, StorageBackend.S3: self.s3})
        return Stores(
            {
                StorageBackend.DISK: Fused(disk, fuse, "put", "delete"),
                StorageBackend.S3: Fused(self.s3, fuse, "put", "delete"),
            }
        )

    async def new_archiver(self) -> Sealer:
        self.fuse = Fuse()
        ports = self.harness.ports("1", self.stores(self.fuse))
        log = Fused(self.harness.log, self.fuse, "read", "purge", "bounds")
        metadata = Fused(self.harness.metadata, self.fuse, "put", "get", "list")
        ports = ArchivePorts("1", ports.bus, log, metadata, ports.catalogue, ports.stores, ports.metrics)
        manifest = await Manifest.open(self.harness.metadata, BUNDLE)
        manifest._store = metadata
        self.views.append(manifest)
        tenure = LeaseClock(LEASE_S, time.monotonic(), 1)
        lease = Lease(self.harness.metadata, "/lease", b"", tenure, time.monotonic)
        return Sealer(ArchiveSession(BUNDLE, ports, lease, manifest), RULES)

    # What happens

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.sampled_from(range(len(self.topics))), min_size=1))
        sections = []
        for index in sorted(chosen):
            lengths = data.draw(st.lists(st.sampled_from([1, 30, 300]), min_size=1, max_size=3))
            self.number += 1
            sections.append((self.topics[index], [b"%d " % self.number * length for length in lengths]))
        self.run(self.harness.publish(*sections))

    @rule(index=st.sampled_from(range(3)), producer=st.integers(1, 2), messages=st.integers(1, 3))
    def publish_idempotently(self, index: int, producer: int, messages: int) -> None:
        self.run(self.harness.publish_batch(self.topics[index], producer, [b"i" * 100] * messages))

    @precondition(lambda self: len(self.topics) > 1)
    @rule(data=st.data())
    def delete_a_topic_and_create_it_again(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(range(len(self.topics))))
        gone = self.topics[index]
        self.run(self.harness.delete(gone))
        self.topics[index] = self.run(self.harness.topic(gone.topic_name.local, gone.strategy))

    @rule()
    def seal(self) -> None:
        self.run(self.seal_on(self.sealer))

    @rule(
        steps=st.integers(1, STEPS_MAX),
        after=st.booleans(),
        fails=st.booleans(),
        keep=st.randoms(use_true_random=True),
    )
    def seal_and_fail_or_die(self, steps: int, *, after: bool, fails: bool, keep: Any) -> None:
        self.fuse.set(steps, after=after, fails=DanubeError(FAILURE) if fails else None)
        with contextlib.suppress(PowerCut, DanubeError):
            self.run(self.seal_on(self.sealer))
        if self.fuse.blown:
            self.die(lambda: keep.random() < 0.5)
        self.fuse.set(0, after=False)

    @rule(operation=st.integers(1, 40), keep=st.randoms(use_true_random=True))
    def seal_and_lose_power(self, operation: int, keep: Any) -> None:
        self.disk._cut_at = self.disk.operations + operation
        lost = False
        try:
            self.run(self.seal_on(self.sealer))
        except PowerCut:
            lost = True
        except BaseExceptionGroup as group:
            lost = group.subgroup(PowerCut) is not None
            assert lost
        self.disk._cut_at = None
        if lost:
            self.die(lambda: keep.random() < 0.5)

    @rule()
    def pause(self) -> None:
        """The archiver stops in its tracks, and another one takes over."""
        self.zombies.append(self.sealer)
        self.sealer = self.run(self.new_archiver())

    @precondition(lambda self: self.zombies)
    @rule()
    def a_paused_one_goes_on(self) -> None:
        self.run(self.seal_on(self.zombies.pop(), ready=True))

    @rule()
    def sweep(self) -> None:
        stores = self.stores(None)
        sweep = Sweep(self.harness.metadata, self.harness.ports("1", stores).metrics)

        async def both() -> None:
            await sweep.sweep(BUNDLE, stores.of(StorageBackend.DISK), StorageBackend.DISK, "1")
            await sweep.sweep(BUNDLE, stores.of(StorageBackend.S3), StorageBackend.S3)

        self.run(both())

    async def seal_on(self, sealer: Sealer, *, ready: bool = False) -> None:
        try:
            if not ready:
                await sealer.take_over()
            bounds = await sealer._ports.log.bounds(BUNDLE)
            if bounds.last_sequence >= bounds.first_sequence:
                await sealer.seal(bounds.last_sequence)
        except Fenced:
            pass
        except BaseExceptionGroup as group:
            if group.subgroup(PowerCut) is None:
                raise
            raise PowerCut from None

    def die(self, keep: Callable[[], bool]) -> None:
        self.disk = self.disk.after_crash(keep)
        # Paused ones died with the machine.
        self.zombies.clear()
        self.sealer = self.run(self.new_archiver())

    # What holds

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        if hasattr(self, "harness"):
            self.run(self.harness.check(self.stores(None)))

    def teardown(self) -> None:
        async def close() -> None:
            for view in self.views:
                await view.close()
            for store in self.disk_stores:
                await store.close()
            if hasattr(self, "harness"):
                await self.harness.close()

        self.run(close())
        self.runner.close()


TestArchiveModel = ArchiveModel.TestCase
TestArchiveModel.settings = settings(stateful_step_count=25)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fails", [False, True], ids=["dies", "fails"])
def test_a_seal_that_ends_at_any_step_is_finished_by_the_next_archiver(*, after: bool, fails: bool) -> None:
    reached = 0
    for steps in range(1, STEPS_MAX):
        model = ArchiveModel()
        try:
            model.start()
            disk, disk2, s3 = model.topics
            for number in range(3):
                sections = ((disk, [b"%d" % number * 300]), (disk2, [b"b", b"c"]), (s3, [b"s" * 200] * 2))
                model.run(model.harness.publish(*sections))
                model.run(model.harness.publish_batch(disk, 1, [b"i"] * 2))
                if number == 0:
                    model.seal()
            model.fuse.set(steps, after=after, fails=DanubeError(FAILURE) if fails else None)
            with contextlib.suppress(PowerCut, DanubeError):
                model.run(model.seal_on(model.sealer))
            reached += model.fuse.left <= 0
            if model.fuse.blown:
                model.die(lambda: False)
            model.fuse.set(0, after=False)
            model.nothing_is_lost_doubled_or_out_of_order()
            model.run(model.harness.publish((disk2, [b"later"])))
            model.seal()
            model.seal()
            model.sweep()
            model.nothing_is_lost_doubled_or_out_of_order()
            bounds = model.run(model.harness.log.bounds(BUNDLE))
            assert bounds.first_sequence > bounds.last_sequence, "the log is not purged"
            named = {segment.key for entry in model.harness.manifest.all() for segment in entry.segments}
            stores = model.stores(None)
            held = [*model.run(stores.of(StorageBackend.DISK).list("")), *model.run(model.s3.list(""))]
            assert set(held) == named, "a leftover is not swept"
        finally:
            model.teardown()
    assert 10 < reached < STEPS_MAX - 1, "not every step of a seal was ended"


def test_a_manifest_entry_that_was_stored_though_the_reply_says_conflict_keeps_its_segments() -> None:
    model = ArchiveModel()
    try:
        model.start()
        model.run(model.harness.publish((model.topics[0], [b"m" * 500]), (model.topics[1], [b"m"])))
        manifest = model.sealer._session.manifest
        add = manifest.add

        async def add_and_say_taken(entry: ManifestEntry) -> None:
            await add(entry)
            raise AlreadyExists("an earlier attempt of this very call was carried out")

        manifest.add = add_and_say_taken  # type: ignore[method-assign]
        model.seal()
        model.nothing_is_lost_doubled_or_out_of_order()
        assert model.harness.manifest.archived_through == 1
    finally:
        model.teardown()
