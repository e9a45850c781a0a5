from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Instance, Topic, encode_record
from danube_common.errors import Quarantined, StoreUnavailable
from danube_common.log.port import LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.wire.archive import By, ListTopics, Located, ReadSegment
from danube_common.wire.frame import encode_frame
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.fake_storage import FakeStorage, archive
from danube_topic_owner.catchup.history import History

BUNDLE = Bundle.parse("f0")
S3 = StorageBackend.S3


def topic(topic_id: int, backend: StorageBackend = StorageBackend.DISK) -> Topic:
    strategy = Strategy(ReliableOptions(storage=backend))
    schema = Schema("s", SchemaKind.BYTES)
    return Topic(f"/default/t{topic_id}", topic_id, str(BUNDLE), schema, strategy, 0, 0)


A, B, C = topic(1), topic(2), topic(3)


class Scene:
    """One bundle's archive: two storage instances over one store each, and a reader of it."""

    def __init__(
        self, metadata: MemoryMetadata, bus: MemoryBus, catalogue: Catalogue, manifest: Manifest
    ) -> None:
        self.metadata = metadata
        self.catalogue = catalogue
        self.manifest = manifest
        self.history = History(bus, catalogue, manifest)
        self.stores = [MemoryStore(), MemoryStore()]
        self.storages = [FakeStorage(bus, str(i), store) for i, store in enumerate(self.stores, start=1)]
        self.offsets: dict[int, int] = {}
        self._sequences = itertools.count(1)

    def frame(self, *sections: tuple[Topic, list[str]]) -> LogEntry:
        sequence = next(self._sequences)
        encoded = [(t.topic_id, [text.encode() for text in texts]) for t, texts in sections]
        return LogEntry(sequence, encode_frame(1, sequence, encoded), 1000 * sequence)

    async def seal(
        self,
        *entries: LogEntry,
        backend: StorageBackend = StorageBackend.DISK,
        holders: tuple[str, ...] = ("1",),
        shared: tuple[int, ...] = (),
    ) -> ManifestEntry:
        entry = await archive(
            self.manifest,
            self.stores[0],
            entries,
            backend=backend,
            holders=holders,
            shared=shared,
            offsets=self.offsets,
        )
        for record in entry.segments:
            await self.stores[1].put(record.key, chunks(await self.content(record)))
        return entry

    async def content(self, record: SegmentRecord) -> bytes:
        return await self.stores[0].read(record.key, 0, record.size_bytes)

    async def texts(self, of: Topic, from_position: int = 0, *, bytes_max: int = 1) -> list[str]:
        """Everything that is there from ``from_position`` on."""
        position = from_position
        found: list[str] = []
        while True:
            batch = await self.history.read(of, position, bytes_max=bytes_max)
            if not batch.entries:
                assert batch.next_position >= position_of(self.manifest.archived_through + 1, 0, 0)
                return found
            for entry in batch.entries:
                found += [
                    entry.section.message(i).decode()
                    for i in range(entry.messages)
                    if entry.first_position + i >= position
                ]
            assert batch.next_position > position
            position = batch.next_position

    async def catalogue_shows(self, instance: Instance) -> None:
        async with asyncio.timeout(20):
            while instance not in self.catalogue.instances("storage"):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)

    def asked(self, kind: type[msgspec.Struct]) -> int:
        return sum(isinstance(request, kind) for storage in self.storages for request in storage.asked)


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    metadata, bus = MemoryMetadata(), MemoryBus(MemoryHub())
    for name in ("1", "2"):
        await metadata.put(
            keys.instance_key(name), encode_record(Instance(name, "storage", "", backends=("disk", "s3")))
        )
    catalogue = await Catalogue.open(metadata)
    manifest = await Manifest.open(metadata, BUNDLE)
    scene = Scene(metadata, bus, catalogue, manifest)
    for storage in scene.storages:
        await storage.start()
    try:
        yield scene
    finally:
        await scene.history.close()
        await manifest.close()
        await catalogue.close()
        await bus.close()


@pytest.mark.parametrize("bytes_max", [1, 100, 1 << 20])
async def test_a_topic_is_read_whole_through_own_and_shared_segments(bytes_max: int) -> None:
    async with open_scene() as scene:
        await scene.seal(scene.frame((A, ["a1", "a2"]), (B, ["b1"])), scene.frame((A, ["a3"])))
        await scene.seal(scene.frame((B, ["b2"])), scene.frame((A, ["a4"]), (B, ["b3"])), shared=(1, 2))
        await scene.seal(scene.frame((A, ["a5"])))
        assert await scene.texts(A, bytes_max=bytes_max) == ["a1", "a2", "a3", "a4", "a5"]
        assert await scene.texts(B, bytes_max=bytes_max) == ["b1", "b2", "b3"]
        assert await scene.texts(C, bytes_max=bytes_max) == []
        assert await scene.texts(A, position_of(1, 0, 1)) == ["a2", "a3", "a4", "a5"]
        assert await scene.texts(A, position_of(3, 0, 0)) == ["a4", "a5"]


async def test_where_the_archive_ends_the_log_goes_on() -> None:
    async with open_scene() as scene:
        assert (await scene.history.read(A, 0)).next_position == position_of(1, 0, 0)
        await scene.seal(scene.frame((B, ["b"])), scene.frame((B, ["b"])))
        assert (await scene.history.read(A, 0)).next_position == position_of(3, 0, 0)
        assert (await scene.history.read(A, position_of(9, 0, 0))).next_position == position_of(9, 0, 0)


async def test_entries_without_messages_of_the_topic_cost_one_look_each_at_most() -> None:
    async with open_scene() as scene:
        for _ in range(5):
            await scene.seal(scene.frame((B, ["b"])))
        for _ in range(3):
            await scene.seal(scene.frame((B, ["b"])), shared=(2,))
        assert await scene.texts(A) == []
        assert await scene.texts(A) == []
        assert (scene.asked(ReadSegment), scene.asked(ListTopics)) == (0, 3)


async def test_what_is_about_to_be_deleted_counts_as_gone() -> None:
    async with open_scene() as scene:
        first = await scene.seal(scene.frame((A, ["a1"])))
        await scene.seal(scene.frame((A, ["a2"])))
        await scene.manifest.change(first, marked_for_deletion)
        assert await scene.texts(A) == ["a2"]
        assert (await scene.history.locate(A, By.POSITION, 0)) == Located(position_of(2, 0, 0), 1)


def marked_for_deletion(entry: ManifestEntry) -> ManifestEntry:
    segments = tuple(msgspec.structs.replace(record, delete_after_ms=1) for record in entry.segments)
    return msgspec.structs.replace(entry, segments=segments)


async def test_the_other_holder_serves_when_one_is_gone_or_damaged() -> None:
    async with open_scene() as scene:
        entry = await scene.seal(
            scene.frame((A, ["a1"])), scene.frame((A, ["a2"])), scene.frame((A, ["a3"])), holders=("1", "2")
        )
        for storage in scene.storages:
            await storage.stop()
            assert await scene.texts(A) == ["a1", "a2", "a3"]
            await storage.start()
        for storage in scene.storages:
            storage.damaged = {entry.segments[0].key: position_of(2, 0, 0)}
            assert await scene.texts(A) == ["a1", "a2", "a3"]
            storage.damaged = {}


async def test_what_is_before_the_damage_is_served_and_nothing_behind_it() -> None:
    async with open_scene() as scene:
        entry = await scene.seal(scene.frame((A, ["a1"])), scene.frame((A, ["a2"])), holders=("1", "2"))
        await scene.seal(scene.frame((A, ["a3"])))
        for storage in scene.storages:
            storage.damaged[entry.segments[0].key] = position_of(2, 0, 0)
        batch = await scene.history.read(A, 0)
        assert [entry.section.messages for entry in batch.entries] == [b"a1"]
        for _ in range(2):
            with pytest.raises(Quarantined, match="damaged, says the test") as damage:
                await scene.history.read(A, batch.next_position)
            assert damage.value.position == position_of(2, 0, 0)
        scene.storages[1].damaged.clear()
        assert await scene.texts(A) == ["a1", "a2", "a3"]


async def test_nobody_there_is_not_taken_for_damage() -> None:
    async with open_scene() as scene:
        entry = await scene.seal(scene.frame((A, ["a1"])), holders=("1", "2"))
        scene.storages[0].damaged[entry.segments[0].key] = 0
        await scene.storages[1].stop()
        with pytest.raises(StoreUnavailable):
            await scene.history.read(A, 0)
        await scene.storages[1].start()
        assert await scene.texts(A) == ["a1"]


async def test_a_segment_in_s3_is_served_by_any_living_instance() -> None:
    async with open_scene() as scene:
        of = topic(1, S3)
        await scene.seal(scene.frame((of, ["a1"])), backend=S3)
        await scene.seal(scene.frame((of, ["a2"])), backend=S3, shared=(1,))
        for storage in scene.storages:
            await storage.stop()
            assert await scene.texts(of) == ["a1", "a2"]
            await storage.start()


async def test_instances_without_s3_are_not_asked_for_what_is_there() -> None:
    async with open_scene() as scene:
        of = topic(1, S3)
        await scene.seal(scene.frame((of, ["a1"])), backend=S3)
        for name in ("1", "2"):
            only_disk = Instance(name, "storage", "", backends=("disk",))
            await scene.metadata.put(keys.instance_key(name), encode_record(only_disk))
            await scene.catalogue_shows(only_disk)
            asked = [len(storage.asked) for storage in scene.storages]
            if name == "1":
                assert await scene.texts(of) == ["a1"]
                assert len(scene.storages[0].asked) == asked[0]
            else:
                with pytest.raises(StoreUnavailable, match="no storage instance"):
                    await scene.history.read(of, 0)


async def test_a_view_that_is_behind_a_deletion_is_renewed() -> None:
    async with open_scene() as scene:
        first = await scene.seal(scene.frame((A, ["a1"])))
        await scene.seal(scene.frame((A, ["a2"])))
        await scene.stores[0].delete(first.segments[0].key)
        emptied = encode_record(msgspec.structs.replace(first, segments=()))
        await scene.metadata.put(keys.manifest_key(BUNDLE, first.first_sequence), emptied)
        assert scene.manifest.all()[0].segments, "this view must be behind for the test to mean anything"
        assert await scene.texts(A) == ["a2"]


async def test_a_message_is_found_by_position_offset_and_time() -> None:
    async with open_scene() as scene:
        await scene.seal(scene.frame((A, ["a0", "a1"]), (B, ["b0"])), scene.frame((A, ["a2"])))
        await scene.seal(scene.frame((B, ["b1"])), scene.frame((A, ["a3", "a4"])), shared=(1, 2))
        await scene.seal(scene.frame((B, ["b2"])), shared=(1, 2))
        locate = scene.history.locate
        a = [position_of(1, 0, 0), position_of(1, 0, 1), position_of(2, 0, 0)]
        a += [position_of(4, 0, 0), position_of(4, 0, 1)]
        for offset, position in enumerate(a):
            assert await locate(A, By.OFFSET, offset) == Located(position, offset)
            assert await locate(A, By.POSITION, position) == Located(position, offset)
        assert await locate(A, By.POSITION, a[2] + 1) == Located(a[3], 3)
        assert await locate(A, By.TIME, 0) == Located(a[0], 0)
        assert await locate(A, By.TIME, 1001) == Located(a[2], 2)
        assert await locate(A, By.TIME, 2001) == Located(a[3], 3)
        assert await locate(B, By.TIME, 4000) == Located(position_of(5, 0, 0), 2)
        for by, beyond in ((By.OFFSET, 5), (By.POSITION, a[4] + 1), (By.TIME, 4001)):
            assert await locate(A, by, beyond) is None


async def test_what_follows_is_asked_for_while_the_reader_works() -> None:
    async with open_scene() as scene:
        await scene.seal(*(scene.frame((A, [f"a{i}"])) for i in range(4)))
        batch = await scene.history.read(A, 0, bytes_max=1)
        async with asyncio.timeout(20):
            while scene.asked(ReadSegment) < 2:
                scene.storages[0].heard.clear()
                await scene.storages[0].heard.wait()
        asked = [request for request in scene.storages[0].asked if isinstance(request, ReadSegment)]
        assert [request.from_position for request in asked] == [0, batch.next_position]


async def test_the_newest_that_is_retained_of_a_topic_is_told() -> None:
    async with open_scene() as scene:
        assert await scene.history.newest(A) is None
        await scene.seal(scene.frame((A, ["a0", "a1"])), scene.frame((A, ["a2"])))
        shared = await scene.seal(scene.frame((A, ["a3"]), (B, ["b0"])), shared=(1, 2))
        await scene.seal(scene.frame((B, ["b1"])), shared=(2,))
        newest = await scene.history.newest(A)
        assert newest is not None
        assert (newest.last_position, newest.last_offset) == (position_of(4 - 1, 0, 0), 3)
        await scene.manifest.change(shared, marked_for_deletion)
        newest = await scene.history.newest(A)
        assert newest is not None
        assert newest.last_offset == 2
        with pytest.raises(StoreUnavailable, match="newest 1 segments"):
            await scene.history.newest(C, segments_max=1)
