"""Damaged segments: what is served of them, their marks, and their repair."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from danube_common.archive.records import S3_HOLDER, ManifestEntry, SegmentRecord
from danube_common.errors import StoreUnavailable
from danube_common.model.position import position_of
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import HEADER_BYTES, SegmentInfo
from danube_common.segment.reader import parse_tail
from danube_common.wire.archive import By
from danube_harness.servers.s3_server import BUCKET, S3Server
from danube_harness.services.read_harness import (
    BUNDLE,
    DISK,
    S3,
    ReadHarness,
    chunks_of,
    frames,
    open_read_harness,
    topic,
)
from danube_storage.reading.recheck import Recheck
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.port import SegmentStore
from danube_storage.segments.s3 import S3Store
from danube_storage.segments.stores import Stores


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
        await self.store.put(key, chunks_of(content))

    async def remove(self, key: str) -> None:
        await self.store.delete(key)

    async def is_there(self, key: str) -> bool:
        return key in await self.store.list("")


def flipped(content: bytes, spot: int) -> bytes:
    damaged = bytearray(content)
    damaged[spot] ^= 0x10
    return bytes(damaged)


async def one_segment(
    harness: ReadHarness, backend: StorageBackend = DISK
) -> tuple[ManifestEntry, SegmentRecord]:
    sealed = await harness.seal(frames(*([(1, [text])] for text in TEXTS)), backend=backend, shared=set())
    await harness.seal(frames([(1, [b"next"])], first=len(TEXTS) + 1), backend=backend, shared=set())
    return sealed, sealed.segments[0]


async def check_quarantine(harness: ReadHarness, record: SegmentRecord, place: str, files: Files) -> None:
    await harness.manifest.refresh()
    (seen,) = harness.manifest.all()[0].segments
    assert set(seen.quarantined) == {place}
    assert record.key in (harness.readings[0].quarantine.problem or "")
    assert harness.count("storage_quarantined_segments") == 1
    assert harness.count("storage_damaged_reads_total", backend=record.backend) >= 1
    assert await files.is_there(record.key), "nothing is deleted"


async def check_damage(harness: ReadHarness, files: Files, backend: StorageBackend, spot: str) -> None:
    """What is before the damage is served, nothing behind it; and all of it if only the index is damaged."""
    _, record = await one_segment(harness, backend)
    content = await files.content(record.key)
    info = parse_tail(content, len(content)).info
    damaged_at = spots(info)[spot]
    await files.put(record.key, flipped(content, damaged_at))
    found, position = await harness.until_damage(topic(1, backend))
    if damaged_at >= info.data_bytes:
        assert (found, position) == ([*TEXTS, b"next"], None)
    else:
        entry_bytes = (info.data_bytes - HEADER_BYTES) // len(TEXTS)
        before = max(0, damaged_at - HEADER_BYTES) // entry_bytes
        assert found == TEXTS[:before]
        assert position is not None
        assert position_of(before, 0, 0) < position <= position_of(before + 1, 0, 0)
    await check_quarantine(harness, record, "1" if backend is DISK else S3_HOLDER, files)


@pytest.mark.parametrize("spot", SPOTS)
async def test_a_flipped_bit_on_disk_ends_what_is_served_and_marks_the_segment(
    tmp_path: Path, spot: str
) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        await check_damage(harness, files, DISK, spot)
    await files.store.close()


async def test_a_flipped_bit_in_s3_ends_what_is_served_and_marks_the_segment(s3_server: S3Server) -> None:
    for number, spot in enumerate(SPOTS):
        store = await S3Store.connect(
            BUCKET, prefix=f"{number}/", endpoint_url=s3_server.endpoint, region="us-east-1"
        )
        async with open_read_harness(store) as harness:
            await check_damage(harness, Objects(store), S3, spot)
        await store.close()


@pytest.mark.parametrize("kept", [0, 10, HEADER_BYTES, 0.3, 0.99, -1])
async def test_a_segment_cut_short_is_served_as_far_as_it_goes(tmp_path: Path, kept: float) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        content = await files.content(record.key)
        info = parse_tail(content, len(content)).info
        length = int(info.data_bytes * kept) if isinstance(kept, float) else kept % len(content)
        await files.put(record.key, content[:length])
        found, position = await harness.until_damage(topic(1))
        if length >= info.data_bytes:
            assert (found, position) == ([*TEXTS, b"next"], None)
        else:
            entry_bytes = (info.data_bytes - HEADER_BYTES) // len(TEXTS)
            assert found == TEXTS[: max(0, length - HEADER_BYTES) // entry_bytes]
            assert position is not None
        await check_quarantine(harness, record, "1", files)
    await files.store.close()


async def test_a_missing_segment_is_damage_and_not_the_end_of_history(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        content = await files.content(record.key)
        await files.remove(record.key)
        assert await harness.until_damage(topic(1)) == ([], 0)
        await harness.manifest.refresh()
        assert harness.manifest.all()[0].segments[0].quarantined == {"1": "it is missing"}
        await files.put(record.key, content)
        assert await harness.texts(topic(1)) == [*TEXTS, b"next"]
    await files.store.close()


async def test_a_segment_that_goes_while_it_is_read_is_damage_too(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        batch = await harness.history.read(topic(1), 0, bytes_max=1)
        await files.remove(record.key)
        found, position = await harness.until_damage(topic(1), batch.next_position)
        assert found == TEXTS[1 : 1 + len(found)]
        assert position is not None
        assert harness.readings[0].quarantine.problem
    await files.store.close()


async def test_what_retention_deletes_is_not_taken_for_damage(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        sealed, record = await one_segment(harness)
        await harness.history.read(topic(1), 0)
        await harness.manifest.change(sealed, lambda sealed: msgspec.structs.replace(sealed, segments=()))
        await files.remove(record.key)
        assert (await harness.texts(topic(1), position_of(30, 0, 0)))[-1] == b"next"
        assert harness.readings[0].quarantine.problem is None
    await files.store.close()


@pytest.mark.parametrize("spot", SPOTS)
async def test_a_replica_is_served_from_where_the_first_copy_is_damaged(tmp_path: Path, spot: str) -> None:
    copies = [Files(tmp_path / "1"), Files(tmp_path / "2")]
    async with open_read_harness(*(files.store for files in copies)) as harness:
        _, record = await one_segment(harness)
        content = await copies[0].content(record.key)
        info = parse_tail(content, len(content)).info
        for number, files in enumerate(copies):
            await files.put(record.key, flipped(content, spots(info)[spot]))
            await harness.renew(number)
            assert await harness.texts(topic(1)) == [*TEXTS, b"next"]
            await files.put(record.key, content)
    for files in copies:
        await files.store.close()


async def test_what_any_copy_has_is_served_and_what_none_has_ends_it(tmp_path: Path) -> None:
    copies = [Files(tmp_path / "1"), Files(tmp_path / "2")]
    async with open_read_harness(*(files.store for files in copies)) as harness:
        _, record = await one_segment(harness)
        content = await copies[0].content(record.key)
        quarter, half = len(content) // 4, len(content) // 2
        await copies[0].put(record.key, flipped(content, quarter))
        await copies[1].put(record.key, flipped(content, half))
        assert await harness.texts(topic(1)) == [*TEXTS, b"next"]
        await harness.manifest.refresh()
        assert harness.manifest.all()[0].segments[0].quarantined
        await copies[1].put(record.key, flipped(content, quarter))
        for number in range(2):
            await harness.renew(number)
        found, position = await harness.until_damage(topic(1))
        assert found == TEXTS[: len(found)]
        assert len(TEXTS) // 8 < len(found) < len(TEXTS) // 2
        assert position is not None
    for files in copies:
        await files.store.close()


async def test_the_index_of_a_shared_segment_that_cannot_be_read_hides_no_topic(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        sealed = await harness.seal(frames(*([(1, [t]), (2, [t + b"2"])] for t in TEXTS)), shared={1, 2})
        (record,) = sealed.segments
        content = await files.content(record.key)
        await files.put(record.key, flipped(content, len(content) - 30))
        assert await harness.texts(topic(2)) == [text + b"2" for text in TEXTS]
        await files.put(record.key, content[: len(content) // 2])
        await harness.renew()
        found, position = await harness.until_damage(topic(2))
        assert found == [text + b"2" for text in TEXTS[: len(found)]]
        assert 0 < len(found) < len(TEXTS)
        assert position is not None
        with pytest.raises(StoreUnavailable, match="damaged"):
            await harness.history.locate(topic(2), By.OFFSET, 39)
    await files.store.close()


async def test_a_mark_that_the_catalogue_could_not_take_is_made_later(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        content = await files.content(record.key)
        await files.put(record.key, flipped(content, HEADER_BYTES + 70))
        harness.catalogue_link.reachable = False
        with pytest.raises(StoreUnavailable):
            await harness.history.read(topic(1), 0)
        harness.catalogue_link.reachable = True
        assert await harness.until_damage(topic(1)) == ([], position_of(1, 0, 0))
        await harness.manifest.refresh()
        assert set(harness.manifest.all()[0].segments[0].quarantined) == {"1"}
    await files.store.close()


async def test_a_segment_that_is_put_back_whole_is_trusted_again(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        content = await files.content(record.key)
        for damaged in (flipped(content, 70), flipped(content, len(content) - 1), content[:-1], b""):
            await files.put(record.key, damaged)
            await harness.renew()
            await harness.until_damage(topic(1))
            # Also by a process that has found nothing itself.
            await harness.renew()
            recheck = Recheck(harness.readings[0], Stores({DISK: files.store}))
            await recheck.run_pass()
            assert record.key in (harness.readings[0].quarantine.problem or "")
            await files.put(record.key, content)
            await recheck.run_pass()
            assert harness.readings[0].quarantine.problem is None
            await harness.manifest.refresh()
            assert harness.manifest.all()[0].segments[0].quarantined == {}
            assert await harness.texts(topic(1)) == [*TEXTS, b"next"]
    await files.store.close()


async def test_random_damage_never_changes_what_is_served(tmp_path: Path) -> None:
    """What comes is the beginning of the truth, or all of it."""
    files = Files(tmp_path)
    chance = random.Random(7)
    async with open_read_harness(files.store) as harness:
        _, record = await one_segment(harness)
        content = await files.content(record.key)
        for _ in range(40):
            damaged = flipped(content, chance.randrange(len(content)))
            await files.put(record.key, damaged)
            await harness.renew()
            found, position = await harness.until_damage(topic(1), bytes_max=300)
            if position is None:
                assert found == [*TEXTS, b"next"]
            else:
                assert found == TEXTS[: len(found)]
    await files.store.close()
