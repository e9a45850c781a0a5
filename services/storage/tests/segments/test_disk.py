from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from danube_common.errors import AlreadyExists, InvalidInput, StoreFull, StoreUnavailable
from danube_harness.faults.crash_disk import CrashDisk, PowerCut
from danube_storage.segments.disk import TEMPORARY_PREFIX, WRITE_BYTES, DiskStore
from danube_storage.segments.port import READ_BYTES_MAX

ROOT = Path("/data/segments")
KEYS = ["f0/1/a", "f0/1/b", "f0/2/a", "c"]
OPERATIONS_MAX = 60

CONTENTS = st.lists(st.integers(0, 1600).map(lambda size: bytes([size % 251]) * size), max_size=3)
CALLS = ("put", "put", "replace", "delete")
STEPS = st.lists(st.tuples(st.sampled_from(KEYS), CONTENTS, st.sampled_from(CALLS)), min_size=1, max_size=5)
Step = tuple[str, Sequence[bytes], str]
FAULTS = st.dictionaries(
    st.integers(1, OPERATIONS_MAX), st.sampled_from([errno.EIO, errno.ENOSPC]), max_size=3
)


async def chunks_of(content: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk


class Known:
    """What the store said about each key: which contents it may hold, and whether it may hold none."""

    def __init__(self) -> None:
        self.allowed: dict[str, set[bytes | None]] = {key: {None} for key in KEYS}

    async def carry_out(self, store: DiskStore, steps: Sequence[Step]) -> None:
        for key, content, call in steps:
            whole = b"".join(content)
            before = self.allowed[key]
            if call == "delete":
                self.allowed[key] = before | {None}
                await store.delete(key)
                self.allowed[key] = {None}
                continue
            if call == "replace":
                self.allowed[key] = before | {None, whole}
                await store.replace(key, chunks_of(content))
                self.allowed[key] = {whole}
                continue
            self.allowed[key] = before | {whole} if None in before else before
            await store.put(key, chunks_of(content))
            self.allowed[key] = {whole}


async def _live(disk: CrashDisk, steps: Sequence[Step], known: Known) -> None:
    store = DiskStore(ROOT, file_system=disk, io_threads=1)
    try:
        for step in steps:
            try:
                await known.carry_out(store, [step])
            except (StoreUnavailable, AlreadyExists):
                continue
    except PowerCut:
        pass
    finally:
        await store.close()


async def _content(store: DiskStore, key: str) -> bytes | None:
    if key not in await store.list(""):
        return None
    content = await store.read(key, 0, READ_BYTES_MAX)
    assert await store.size(key) == len(content)
    return content


# The sync of a directory above the root fails, and is made up for by the next put.
@example([("f0/1/a", [], "put"), ("f0/1/a", [], "put"), ("c", [], "put")], 13, {1: 5, 4: 5}, Random(0), 0.0)
@given(STEPS, st.integers(1, OPERATIONS_MAX), FAULTS, st.randoms(use_true_random=False), st.floats(0, 1))
def test_what_put_returned_for_is_whole_after_a_crash_and_the_rest_is_absent_or_whole(
    steps: Sequence[Step],
    cut_at: int,
    errors_at: dict[int, int],
    random: Random,
    kept_part: float,
) -> None:
    async def scenario() -> None:
        known = Known()
        disk = CrashDisk(cut_at=cut_at, errors_at=errors_at)
        await _live(disk, steps, known)
        found = disk.after_crash(lambda: random.random() < kept_part)
        store = DiskStore(ROOT, file_system=found)
        try:
            for key in KEYS:
                assert await _content(store, key) in known.allowed[key], key
            await store.sweep()
            assert set(await store.list("")) <= set(KEYS)
            for key in KEYS:
                there = await _content(store, key)
                await store.put(key, chunks_of([there if there is not None else b"again"]))
            final = DiskStore(ROOT, file_system=found.after_crash(lambda: False))
            for key in KEYS:
                assert await _content(final, key) is not None
            await final.close()
        finally:
            await store.close()

    asyncio.run(scenario())


def test_the_simulated_disk_loses_what_was_not_synced() -> None:
    """Proof that the test above can fail: without syncs nothing is left, or a torn part."""
    disk = CrashDisk()
    disk.make_directory(Path("/d"))
    disk.sync_directory(Path("/"))
    file = disk.create(Path("/d/x"))
    file.write(b"1" * 2000)
    disk.sync_directory(Path("/d"))
    assert disk.after_crash(lambda: False).read(Path("/d/x"), 0, 9000) == b""
    choices = iter([False, True, False, False])
    torn = disk.after_crash(lambda: next(choices)).read(Path("/d/x"), 0, 9000)
    assert torn == bytes(512) + b"1" * 512
    file.sync()
    assert disk.after_crash(lambda: False).size(Path("/d/x")) == 2000
    disk.link(Path("/d/x"), Path("/d/y"))
    assert disk.after_crash(lambda: False).list(Path("/d")) == [("x", False)]


class FullAtFirst(CrashDisk):
    def __init__(self) -> None:
        super().__init__()
        self.room = False

    def write_to(self, file: Any, data: bytes) -> None:
        if not self.room:
            self.room = True
            raise OSError(errno.ENOSPC, "no space left on device")
        super().write_to(file, data)


async def test_a_full_disk_stores_nothing_says_so_and_takes_more_when_there_is_room() -> None:
    disk = FullAtFirst()
    store = DiskStore(ROOT, file_system=disk, io_threads=1)
    with pytest.raises(StoreFull):
        await store.put("a", chunks_of([b"x" * 1000]))
    assert await store.list("") == []
    await store.put("a", chunks_of([b"x" * 1000]))
    assert await store.size("a") == 1000
    await store.close()


class NoSyncTwice(CrashDisk):
    """Fails a test that syncs one file again after a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[int] = set()
        self.syncs = 0

    def sync(self, file: Any) -> None:
        assert id(file) not in self.failed
        self.syncs += 1
        if self.syncs == 1:
            self.failed.add(id(file))
            raise OSError(errno.EIO, "input/output error")


async def test_a_file_whose_sync_failed_is_abandoned_for_a_new_one() -> None:
    disk = NoSyncTwice()
    store = DiskStore(ROOT, file_system=disk)
    with pytest.raises(StoreUnavailable):
        await store.put("a", chunks_of([b"x"]))
    assert await store.list("") == []
    assert disk.list(ROOT) == []
    await store.put("a", chunks_of([b"x"]))
    assert disk.syncs == 2
    await store.close()


async def test_files_of_a_dead_writer_are_swept_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    store, other = DiskStore(tmp_path / "s"), DiskStore(tmp_path / "s")
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * WRITE_BYTES
        writing.set()
        await go_on.wait()
        yield b"y"

    put = asyncio.create_task(store.put("t/a", slow()))
    await writing.wait()
    dead = tmp_path / "s" / "t" / f"{TEMPORARY_PREFIX}dead"
    dead.write_bytes(b"half")
    assert await other.list("") == []
    assert await other.sweep() == 1
    assert not dead.exists()
    go_on.set()
    await put
    assert await other.list("") == ["t/a"]
    assert await other.sweep() == 0
    assert [path.name for path in (tmp_path / "s" / "t").iterdir()] == ["a"]
    await store.close()
    await other.close()


async def test_a_cancelled_put_leaves_nothing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "s")
    writing = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * WRITE_BYTES
            writing.set()
            await asyncio.Event().wait()

    put = asyncio.create_task(store.put("t/a", endless()))
    await writing.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert list((tmp_path / "s" / "t").iterdir()) == []
    await store.close()


async def test_nothing_outside_the_directory_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store = DiskStore(tmp_path / "s")
    for key in ["../secret", "/etc/passwd", "a/../../secret", ".new-1", "a//b", "", "a/", "a\n", "a\0b", "é"]:
        with pytest.raises(InvalidInput):
            await store.read(key, 0, 1)
        with pytest.raises(InvalidInput):
            await store.put(key, chunks_of([b"x"]))
        with pytest.raises(InvalidInput):
            await store.delete(key)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreUnavailable):
        await store.read("link", 0, 6)
    assert await store.list("") == []
    await store.close()


async def test_what_is_replaced_stays_until_the_new_content_is_whole(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)

    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise StoreUnavailable("the source is gone")

    await store.put("a/b", chunks_of([b"old"]))
    with pytest.raises(StoreUnavailable):
        await store.replace("a/b", broken())
    assert await _content(store, "a/b") == b"old"
    await store.replace("a/b", chunks_of([b"new"]))
    assert await _content(store, "a/b") == b"new"
    await store.close()


async def test_a_store_goes_on_when_its_directory_was_deleted(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "segments")
    await store.put("a/b", chunks_of([b"lost"]))
    shutil.rmtree(tmp_path / "segments")
    await store.put("a/c", chunks_of([b"kept"]))
    assert await store.list("") == ["a/c"]
    await store.close()


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "s")
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.list("")
