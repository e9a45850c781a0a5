from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import S3_HOLDER, ManifestEntry, SegmentRecord
from danube_common.bus.memory import MemoryBus, MemoryHub
from danube_common.bus.port import Subscription
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Instance, Topic, encode_record
from danube_common.errors import Quarantined, StoreUnavailable
from danube_common.log.port import LogEntry
from danube_common.metadata.memory import MemoryMetadata
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.segment.format import HEADER_BYTES, SegmentInfo
from danube_common.segment.reader import parse_tail
from danube_common.wire.archive import ARCHIVE, By, Located, storage_subject
from danube_common.wire.frame import encode_frame
from danube_harness.servers.s3_server import BUCKET, S3Server
from danube_harness.services.fake_storage import archive
from danube_storage.reading import verified_range
from danube_storage.reading.metrics import ReadingMetrics
from danube_storage.reading.recheck import Recheck
from danube_storage.reading.requests import ReadBounds, ReadRequests
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.memory import MemoryStore
from danube_storage.segments.port import SegmentStore
from danube_storage.segments.s3 import S3Store
from danube_topic_owner.catchup.history import History

BUNDLE = Bundle.parse("f0")
DISK, S3 = StorageBackend.DISK, StorageBackend.S3
SMALL = ReadBounds(tail_bytes=8192, backfill_bytes=4096, range_bytes={DISK: 600, S3: 600})


def topic(topic_id: int, backend: StorageBackend = DISK) -> Topic:
    strategy = Strategy(ReliableOptions(storage=backend))
    return Topic(
        f"/default/t{topic_id}", topic_id, str(BUNDLE), Schema("s", SchemaKind.BYTES), strategy, 0, 0
    )


def frames(*frames_of_sections: Sequence[tuple[int, list[bytes]]], first: int = 1) -> list[LogEntry]:
    return [
        LogEntry(sequence, encode_frame(1, sequence, sections), 1000 * sequence)
        for sequence, sections in enumerate(frames_of_sections, start=first)
    ]


class Scene:
    """Storage instances, each with a store of its own, one bundle's catalogue, and a reader."""

    def __init__(
        self, metadata: MemoryMetadata, bus: MemoryBus, catalogue: Catalogue, cuts: Manifest
    ) -> None:
        self.metadata = metadata
        self.catalogue_link = metadata.handle()
        self.bus = bus
        self.cuts = cuts
        self.history = History(bus, catalogue, cuts)
        self.stores: list[SegmentStore] = []
        self.readings: list[ReadRequests] = []
        self.metrics: list[Metrics] = []
        self.serving: dict[str, Subscription] = {}

    async def start(self, store: SegmentStore, bounds: ReadBounds = SMALL) -> None:
        self.stores.append(store)
        name = str(len(self.stores))
        await self._serve(len(self.stores) - 1, store, bounds)
        instance = Instance(name, "storage", "", backends=("disk", "s3"))
        await self.metadata.put(keys.instance_key(name), encode_record(instance))

    async def _serve(self, number: int, store: SegmentStore, bounds: ReadBounds = SMALL) -> None:
        name = str(number + 1)
        if name in self.serving:
            await self.serving[name].close()
        self.metrics[number:] = [Metrics("storage", name), *self.metrics[number + 1 :]]
        metrics = ReadingMetrics(self.metrics[number])
        reading = ReadRequests(lambda _backend: store, self.catalogue_link, name, metrics, bounds)
        self.readings[number:] = [reading, *self.readings[number + 1 :]]
        self.serving[name] = await self.bus.serve(storage_subject(name), ARCHIVE.handler(reading.answer))

    async def cut(
        self, entries: list[LogEntry], *, backend: StorageBackend = DISK, shared: set[int]
    ) -> ManifestEntry:
        """Archived on all instances."""
        holders = tuple(str(number) for number in range(1, len(self.stores) + 1))
        cut = await archive(
            self.cuts, self.stores[0], entries, backend=backend, holders=holders, shared=shared
        )
        if backend is DISK:
            for record in cut.segments:
                content = await self.stores[0].read(record.key, 0, record.size_bytes)
                for store in self.stores[1:]:
                    await store.put(record.key, pieces(content))
        return cut

    async def texts(self, of: Topic, from_position: int = 0, *, bytes_max: int = 1) -> list[bytes]:
        """All that is there; what was read before a damage is lost with it."""
        found, position = await self.until_damage(of, from_position, bytes_max=bytes_max)
        assert position is None, f"damaged at {position}"
        return found

    async def until_damage(
        self, of: Topic, from_position: int = 0, *, bytes_max: int = 1
    ) -> tuple[list[bytes], int | None]:
        """What is there before the first damage, and where that is."""
        position = from_position
        found: list[bytes] = []
        while True:
            try:
                batch = await self.history.read(of, position, bytes_max=bytes_max)
            except Quarantined as damage:
                return found, damage.position
            if not batch.entries:
                return found, None
            for entry in batch.entries:
                section = entry.section
                found += [
                    section.message(i) for i in range(len(section)) if entry.first_position + i >= position
                ]
            position = batch.next_position

    async def renew(self, number: int = 0) -> None:
        """The instance starts again: nothing is in its memory."""
        await self.readings[number].close()
        await self._serve(number, self.stores[number])

    def count(self, name: str, number: int = 0, **labels: str) -> float:
        return self.metrics[number].registry.get_sample_value(f"danube_{name}", labels) or 0.0


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


@asynccontextmanager
async def open_scene(*stores: SegmentStore, bounds: ReadBounds = SMALL) -> AsyncIterator[Scene]:
    metadata, bus = MemoryMetadata(), MemoryBus(MemoryHub())
    catalogue = await Catalogue.open(metadata)
    cuts = await Manifest.open(metadata, BUNDLE)
    scene = Scene(metadata, bus, catalogue, cuts)
    for store in stores or (MemoryStore(),):
        await scene.start(store, bounds)
    try:
        yield scene
    finally:
        await scene.history.close()
        for reading in scene.readings:
            await reading.close()
        await cuts.close()
        await catalogue.close()
        await bus.close()


MESSAGES = st.lists(st.binary(max_size=80), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.dictionaries(st.sampled_from([1, 2, 3]), MESSAGES, min_size=1), min_size=1, max_size=25),
    st.sets(st.sampled_from([1, 2, 3])),
    st.integers(1, 2000),
    st.data(),
)
async def test_every_message_is_served_once_and_in_order_from_any_position(
    written: list[dict[int, list[bytes]]], shared: set[int], bytes_max: int, data: st.DataObject
) -> None:
    async with open_scene() as scene:
        entries = frames(*(list(sections.items()) for sections in written))
        middle = len(entries) // 2
        for part in (entries[:middle], entries[middle:]):
            if part:
                await scene.cut(part, shared=shared)
        for topic_id in (1, 2, 3):
            wanted = [
                (position_of(sequence, list(sections).index(topic_id), i), message)
                for sequence, sections in enumerate(written, start=1)
                for i, message in enumerate(sections.get(topic_id, []))
            ]
            start = data.draw(st.sampled_from([0, *(position for position, _ in wanted)]))
            texts = await scene.texts(topic(topic_id), start, bytes_max=bytes_max)
            assert texts == [message for position, message in wanted if position >= start]
            for by, values in (
                (By.POSITION, [position for position, _ in wanted]),
                (By.TIME, [(position >> 26) * 1000 for position, _ in wanted]),
            ):
                for value in values:
                    expected = values.index(value)
                    located = await scene.history.locate(topic(topic_id), by, value)
                    assert located is not None
                    assert located.position == wanted[expected][0]


async def test_a_message_is_found_by_its_offset_in_segments_of_many_ranges() -> None:
    async with open_scene() as scene:
        written = [[(1, [b"x" * 50]), (2, [b"y", b"y"])] for _ in range(60)]
        await scene.cut(frames(*written), shared={2})
        for offset in range(60):
            located = await scene.history.locate(topic(1), By.OFFSET, offset)
            assert located == Located(position_of(offset + 1, 0, 0), offset)
            located = await scene.history.locate(topic(2), By.OFFSET, 2 * offset + 1)
            assert located == Located(position_of(offset + 1, 1, 1), 2 * offset + 1)


@pytest.mark.parametrize("shared", [set[int](), {1, 2}])
async def test_no_answer_is_more_than_the_bus_carries(
    monkeypatch: pytest.MonkeyPatch, shared: set[int]
) -> None:
    """A huge entry comes alone, however much was asked for."""
    monkeypatch.setattr(verified_range, "HUGE_BYTES", 1000)
    async with open_scene() as scene:
        sizes = [100, 100, 2000, 100, 3000, 3000, 100, 900, 900]
        written = [[(1, [bytes([65 + n]) * size]), (2, [b"other"])] for n, size in enumerate(sizes)]
        await scene.cut(frames(*written), shared=shared)
        wanted = [sections[0][1][0] for sections in written]
        for bytes_max in (1, 1000, 100_000):
            assert await scene.texts(topic(1), bytes_max=bytes_max) == wanted
        position = 0
        while batch := (await scene.history.read(topic(1), position, bytes_max=1000)):
            if not batch.entries:
                break
            bodies = [len(entry.raw.body) for entry in batch.entries]
            assert max(bodies) <= 1000 or len(bodies) == 1
            position = batch.next_position


# Damage


def spots(info: SegmentInfo) -> dict[str, int]:
    """A place in each part of a segment."""
    middle = HEADER_BYTES + (info.data_bytes - HEADER_BYTES) // 2
    return {
        "header": 5,
        "first entry's head": HEADER_BYTES + 3,
        "first entry's body": HEADER_BYTES + 70,
        "middle": middle,
        "last entry's body": info.data_bytes - 2,
        "index": info.data_bytes + 4,
        "footer": info.size_bytes - 40,
        "trailer": info.size_bytes - 10,
        "end mark": info.size_bytes - 1,
    }


SPOTS = list(spots(SegmentInfo(1, BUNDLE, 1, (), 0, 0, 0, 0, 0, 0, 0)))  # type: ignore[arg-type]
TEXTS = [bytes([65 + number]) * 90 for number in range(40)]


class Files:
    """Segments on disk, damaged behind the store's back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: SegmentStore = DiskStore(root)

    async def content(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    async def put(self, key: str, content: bytes) -> None:
        (self.root / key).write_bytes(content)

    async def remove(self, key: str) -> None:
        (self.root / key).unlink()

    async def is_there(self, key: str) -> bool:
        return (self.root / key).exists()


class Objects(Files):
    """Segments in S3, likewise."""

    def __init__(self, store: S3Store) -> None:
        self.store = store

    async def content(self, key: str) -> bytes:
        return await self.store.read(key, 0, await self.store.size(key))

    async def put(self, key: str, content: bytes) -> None:
        await self.store.delete(key)
        await self.store.put(key, pieces(content))

    async def remove(self, key: str) -> None:
        await self.store.delete(key)

    async def is_there(self, key: str) -> bool:
        return key in await self.store.list("")


def flipped(content: bytes, spot: int) -> bytes:
    damaged = bytearray(content)
    damaged[spot] ^= 0x10
    return bytes(damaged)


async def one_segment(scene: Scene, backend: StorageBackend = DISK) -> tuple[ManifestEntry, SegmentRecord]:
    cut = await scene.cut(frames(*([(1, [text])] for text in TEXTS)), backend=backend, shared=set())
    await scene.cut(frames([(1, [b"next"])], first=len(TEXTS) + 1), backend=backend, shared=set())
    return cut, cut.segments[0]


async def check_quarantine(scene: Scene, record: SegmentRecord, place: str, files: Files) -> None:
    await scene.cuts.refresh()
    (seen,) = scene.cuts.all()[0].segments
    assert set(seen.quarantined) == {place}
    assert record.key in (scene.readings[0].quarantine.problem or "")
    assert scene.count("storage_quarantined_segments") == 1
    assert scene.count("storage_damaged_reads_total", backend=record.backend) >= 1
    assert await files.is_there(record.key), "nothing is deleted"


async def check_damage(scene: Scene, files: Files, backend: StorageBackend, spot: str) -> None:
    """What is before the damage is served, nothing behind it; and all of it if only the index is damaged."""
    _, record = await one_segment(scene, backend)
    content = await files.content(record.key)
    info = parse_tail(content, len(content)).info
    damaged_at = spots(info)[spot]
    await files.put(record.key, flipped(content, damaged_at))
    found, position = await scene.until_damage(topic(1, backend))
    if damaged_at >= info.data_bytes:
        assert (found, position) == ([*TEXTS, b"next"], None)
    else:
        entry_bytes = (info.data_bytes - HEADER_BYTES) // len(TEXTS)
        before = max(0, damaged_at - HEADER_BYTES) // entry_bytes
        assert found == TEXTS[:before]
        assert position is not None
        assert position_of(before, 0, 0) < position <= position_of(before + 1, 0, 0)
    await check_quarantine(scene, record, "1" if backend is DISK else S3_HOLDER, files)


@pytest.mark.parametrize("spot", SPOTS)
async def test_a_flipped_bit_on_disk_ends_what_is_served_and_marks_the_segment(
    tmp_path: Path, spot: str
) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        await check_damage(scene, files, DISK, spot)
    await files.store.close()


async def test_a_flipped_bit_in_s3_ends_what_is_served_and_marks_the_segment(s3_server: S3Server) -> None:
    for number, spot in enumerate(SPOTS):
        store = await S3Store.connect(
            BUCKET, prefix=f"{number}/", endpoint_url=s3_server.endpoint, region="us-east-1"
        )
        async with open_scene(store) as scene:
            await check_damage(scene, Objects(store), S3, spot)
        await store.close()


@pytest.mark.parametrize("kept", [0, 10, HEADER_BYTES, 0.3, 0.99, -1])
async def test_a_segment_cut_short_is_served_as_far_as_it_goes(tmp_path: Path, kept: float) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        content = await files.content(record.key)
        info = parse_tail(content, len(content)).info
        length = int(info.data_bytes * kept) if isinstance(kept, float) else kept % len(content)
        await files.put(record.key, content[:length])
        found, position = await scene.until_damage(topic(1))
        if length >= info.data_bytes:
            assert (found, position) == ([*TEXTS, b"next"], None)
        else:
            entry_bytes = (info.data_bytes - HEADER_BYTES) // len(TEXTS)
            assert found == TEXTS[: max(0, length - HEADER_BYTES) // entry_bytes]
            assert position is not None
        await check_quarantine(scene, record, "1", files)
    await files.store.close()


async def test_a_missing_segment_is_damage_and_not_the_end_of_history(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        content = await files.content(record.key)
        await files.remove(record.key)
        assert await scene.until_damage(topic(1)) == ([], 0)
        await scene.cuts.refresh()
        assert scene.cuts.all()[0].segments[0].quarantined == {"1": "it is missing"}
        await files.put(record.key, content)
        assert await scene.texts(topic(1)) == [*TEXTS, b"next"]
    await files.store.close()


async def test_a_segment_that_goes_while_it_is_read_is_damage_too(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        batch = await scene.history.read(topic(1), 0, bytes_max=1)
        await files.remove(record.key)
        found, position = await scene.until_damage(topic(1), batch.next_position)
        assert found == TEXTS[1 : 1 + len(found)]
        assert position is not None
        assert scene.readings[0].quarantine.problem
    await files.store.close()


async def test_what_retention_deletes_is_not_taken_for_damage(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        cut, record = await one_segment(scene)
        await scene.history.read(topic(1), 0)
        await scene.cuts.change(cut, lambda cut: msgspec.structs.replace(cut, segments=()))
        await files.remove(record.key)
        assert (await scene.texts(topic(1), position_of(30, 0, 0)))[-1] == b"next"
        assert scene.readings[0].quarantine.problem is None
    await files.store.close()


@pytest.mark.parametrize("spot", SPOTS)
async def test_a_replica_is_served_from_where_the_first_copy_is_damaged(tmp_path: Path, spot: str) -> None:
    copies = [Files(tmp_path / "1"), Files(tmp_path / "2")]
    async with open_scene(*(files.store for files in copies)) as scene:
        _, record = await one_segment(scene)
        content = await copies[0].content(record.key)
        info = parse_tail(content, len(content)).info
        for number, files in enumerate(copies):
            await files.put(record.key, flipped(content, spots(info)[spot]))
            await scene.renew(number)
            assert await scene.texts(topic(1)) == [*TEXTS, b"next"]
            await files.put(record.key, content)
    for files in copies:
        await files.store.close()


async def test_what_any_copy_has_is_served_and_what_none_has_ends_it(tmp_path: Path) -> None:
    copies = [Files(tmp_path / "1"), Files(tmp_path / "2")]
    async with open_scene(*(files.store for files in copies)) as scene:
        _, record = await one_segment(scene)
        content = await copies[0].content(record.key)
        quarter, half = len(content) // 4, len(content) // 2
        await copies[0].put(record.key, flipped(content, quarter))
        await copies[1].put(record.key, flipped(content, half))
        assert await scene.texts(topic(1)) == [*TEXTS, b"next"]
        await scene.cuts.refresh()
        assert scene.cuts.all()[0].segments[0].quarantined
        await copies[1].put(record.key, flipped(content, quarter))
        for number in range(2):
            await scene.renew(number)
        found, position = await scene.until_damage(topic(1))
        assert found == TEXTS[: len(found)]
        assert len(TEXTS) // 8 < len(found) < len(TEXTS) // 2
        assert position is not None
    for files in copies:
        await files.store.close()


async def test_the_index_of_a_shared_segment_that_cannot_be_read_hides_no_topic(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        cut = await scene.cut(frames(*([(1, [t]), (2, [t + b"2"])] for t in TEXTS)), shared={1, 2})
        (record,) = cut.segments
        content = await files.content(record.key)
        await files.put(record.key, flipped(content, len(content) - 30))
        assert await scene.texts(topic(2)) == [text + b"2" for text in TEXTS]
        await files.put(record.key, content[: len(content) // 2])
        await scene.renew()
        found, position = await scene.until_damage(topic(2))
        assert found == [text + b"2" for text in TEXTS[: len(found)]]
        assert 0 < len(found) < len(TEXTS)
        assert position is not None
        with pytest.raises(StoreUnavailable, match="damaged"):
            await scene.history.locate(topic(2), By.OFFSET, 39)
    await files.store.close()


async def test_a_mark_that_the_catalogue_could_not_take_is_made_later(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        content = await files.content(record.key)
        await files.put(record.key, flipped(content, HEADER_BYTES + 70))
        scene.catalogue_link.reachable = False
        with pytest.raises(StoreUnavailable):
            await scene.history.read(topic(1), 0)
        scene.catalogue_link.reachable = True
        assert await scene.until_damage(topic(1)) == ([], position_of(1, 0, 0))
        await scene.cuts.refresh()
        assert set(scene.cuts.all()[0].segments[0].quarantined) == {"1"}
    await files.store.close()


async def test_a_segment_that_is_put_back_whole_is_trusted_again(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        content = await files.content(record.key)
        for damaged in (flipped(content, 70), flipped(content, len(content) - 1), content[:-1], b""):
            await files.put(record.key, damaged)
            await scene.renew()
            await scene.until_damage(topic(1))
            # Also by a process that has found nothing itself.
            await scene.renew()
            recheck = Recheck(scene.readings[0], lambda _backend: files.store, frozenset({DISK}))
            await recheck.look()
            assert record.key in (scene.readings[0].quarantine.problem or "")
            await files.put(record.key, content)
            await recheck.look()
            assert scene.readings[0].quarantine.problem is None
            await scene.cuts.refresh()
            assert scene.cuts.all()[0].segments[0].quarantined == {}
            assert await scene.texts(topic(1)) == [*TEXTS, b"next"]
    await files.store.close()


async def test_random_damage_never_changes_what_is_served(tmp_path: Path) -> None:
    """What comes is the beginning of the truth, or all of it."""
    files = Files(tmp_path)
    chance = random.Random(7)
    async with open_scene(files.store) as scene:
        _, record = await one_segment(scene)
        content = await files.content(record.key)
        for _ in range(40):
            damaged = flipped(content, chance.randrange(len(content)))
            await files.put(record.key, damaged)
            await scene.renew()
            found, position = await scene.until_damage(topic(1), bytes_max=300)
            if position is None:
                assert found == [*TEXTS, b"next"]
            else:
                assert found == TEXTS[: len(found)]
    await files.store.close()
