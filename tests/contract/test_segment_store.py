"""What every SegmentStore promises: in memory, on disk, and on real S3 servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from danube_common.errors import AlreadyExists, InvalidInput, NotFound, StoreUnavailable
from danube_harness.memory.segments import MemoryStore
from danube_harness.servers.s3_server import BUCKET, S3Kind, S3Server
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.port import KEY_LENGTH_MAX, KEY_PART_LENGTH_MAX, READ_BYTES_MAX, SegmentStore
from danube_storage.segments.s3 import PART_BYTES, S3Store

MIB = 1 << 20
WRITERS = 10
BAD_KEYS = ["", "/", "/a", "a/", "a//b", "..", "a/../b", ".a", "a/.b", "ä", "a b", "a\n", "a\\b"]


async def chunks_of(content: bytes, chunk_bytes: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), chunk_bytes):
        yield content[start : start + chunk_bytes]


def content_of(size_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


@pytest.fixture(params=["memory", "disk", *S3Kind])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch) -> S3Server | None:
    """The server that all tests of its kind in this file share; None if the store needs none."""
    if kind not in list(S3Kind):
        return None
    server: S3Server = request.getfixturevalue(f"shared_{kind}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
async def store(kind: str, server: S3Server | None, tmp_path: Path) -> AsyncIterator[SegmentStore]:
    store: SegmentStore
    if server is not None:
        store = await S3Store.connect(BUCKET, prefix=f"{uuid4()}/", endpoint_url=server.endpoint)
    elif kind == "disk":
        store = DiskStore(tmp_path / "deep" / "segments")
    else:
        store = MemoryStore()
    yield store
    await store.close()


def atomic_when_large(kind: str) -> bool:
    """Whether creating in parts is atomic: of racing ones moto lets each win, SeaweedFS two now and then.

    No two archivers write one key: each attempt's key has a random part.
    """
    return kind not in list(S3Kind)


async def test_what_was_put_is_read_back(store: SegmentStore) -> None:
    content = content_of(300_000)
    await store.put("f0/topic-7/0000.seg", chunks_of(content))
    assert await store.size("f0/topic-7/0000.seg") == len(content)
    assert await store.read("f0/topic-7/0000.seg", 0, READ_BYTES_MAX) == content


async def test_a_range_is_given_as_asked_and_cut_at_the_end(store: SegmentStore) -> None:
    content = content_of(1000)
    await store.put("a", chunks_of(content))
    for offset, length in [(0, 1), (0, 1000), (999, 1), (500, 250), (990, 100), (1000, 5), (5000, 5), (3, 0)]:
        assert await store.read("a", offset, length) == content[offset : offset + length]


async def test_an_empty_segment_is_one(store: SegmentStore) -> None:
    await store.put("empty", chunks_of(b""))
    assert await store.size("empty") == 0
    assert await store.read("empty", 0, 10) == b""
    assert await store.list("") == ["empty"]


async def test_the_same_content_again_is_no_error(store: SegmentStore) -> None:
    for _ in range(3):
        await store.put("a", chunks_of(content_of(5000)))
    assert await store.read("a", 0, 10_000) == content_of(5000)


async def test_other_content_is_refused_and_what_is_there_stays(store: SegmentStore) -> None:
    await store.put("a", chunks_of(content_of(5000)))
    for other in (content_of(5000, seed=1), content_of(4999), b"", content_of(PART_BYTES + 1)):
        with pytest.raises(AlreadyExists):
            await store.put("a", chunks_of(other))
        assert await store.read("a", 0, 10_000) == content_of(5000)


async def test_of_racing_writers_of_different_content_one_wins(store: SegmentStore) -> None:
    contents = [content_of(20_000, seed=writer) for writer in range(WRITERS)]
    outcomes = await asyncio.gather(
        *(store.put("raced", chunks_of(content)) for content in contents), return_exceptions=True
    )
    winners = [content for content, outcome in zip(contents, outcomes, strict=True) if outcome is None]
    assert len(winners) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == WRITERS - 1
    assert await store.read("raced", 0, READ_BYTES_MAX) == winners[0]


async def test_racing_writers_of_the_same_content_all_succeed(store: SegmentStore) -> None:
    await asyncio.gather(*(store.put("raced", chunks_of(content_of(20_000))) for _ in range(WRITERS)))
    assert await store.read("raced", 0, READ_BYTES_MAX) == content_of(20_000)


async def test_a_large_segment_is_stored_whole_and_once(store: SegmentStore) -> None:
    content = content_of(20 * MIB)
    await store.put("large", chunks_of(content, MIB))
    assert await store.size("large") == len(content)
    assert await store.read("large", 0, READ_BYTES_MAX) == content
    around = slice(PART_BYTES - 10, PART_BYTES + 10)
    assert await store.read("large", around.start, 20) == content[around]
    await store.put("large", chunks_of(content, 3 * MIB + 1))
    with pytest.raises(AlreadyExists):
        await store.put("large", chunks_of(content[:-1] + b"!", MIB))
    assert await store.read("large", 19 * MIB, 2 * MIB) == content[19 * MIB :]


async def test_of_racing_writers_of_large_segments_one_wins_and_none_is_mixed(
    store: SegmentStore, kind: str
) -> None:
    contents = [content_of(PART_BYTES + 1000, seed=writer) for writer in range(3)]
    outcomes = await asyncio.gather(
        *(store.put("raced", chunks_of(content, MIB)) for content in contents), return_exceptions=True
    )
    winners = [content for content, outcome in zip(contents, outcomes, strict=True) if outcome is None]
    assert winners if not atomic_when_large(kind) else len(winners) == 1, outcomes
    assert await store.read("raced", 0, READ_BYTES_MAX) in winners


async def test_sizes_around_a_parts_are_stored_whole(store: SegmentStore) -> None:
    for size_bytes in (1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES):
        content, key = content_of(size_bytes), f"of-{size_bytes}"
        await store.put(key, chunks_of(content, 1_234_567))
        assert await store.size(key) == size_bytes
        assert await store.read(key, 0, READ_BYTES_MAX) == content


async def test_what_is_missing_is_not_found(store: SegmentStore) -> None:
    await store.put("f0/a", chunks_of(b"x"))
    for key in ("f0/b", "f0", "f1/a"):
        with pytest.raises(NotFound):
            await store.size(key)
        with pytest.raises(NotFound):
            await store.read(key, 0, 10)
        with pytest.raises(NotFound):
            await store.read(key, 0, 0)


async def test_keys_are_listed_sorted_under_whole_parts_of_a_prefix(store: SegmentStore) -> None:
    assert await store.list("") == []
    keys = ["f0/1/a", "f0/1/b", "f0/10/a", "f0/2/c.seg", "f1/x"]
    for key in reversed(keys):
        await store.put(key, chunks_of(key.encode()))
    assert await store.list("") == keys
    assert await store.list("f0/1/") == ["f0/1/a", "f0/1/b"]
    assert await store.list("f0/") == keys[:4]
    assert await store.list("f9/") == []
    for prefix in ("f0/1", "/", "../", "f0//"):
        with pytest.raises(InvalidInput):
            await store.list(prefix)


async def test_a_deleted_segment_is_gone_and_deleting_again_is_no_error(store: SegmentStore) -> None:
    await store.put("t/a", chunks_of(b"1"))
    await store.put("t/b", chunks_of(b"2"))
    for _ in range(2):
        await store.delete("t/a")
    await store.delete("never/was")
    assert await store.list("") == ["t/b"]
    with pytest.raises(NotFound):
        await store.read("t/a", 0, 1)
    await store.put("t/a", chunks_of(b"other"))
    assert await store.read("t/a", 0, 10) == b"other"


async def test_a_source_that_fails_leaves_nothing(store: SegmentStore) -> None:
    async def failing(sent_bytes: int) -> AsyncIterator[bytes]:
        async for chunk in chunks_of(content_of(sent_bytes), MIB):
            yield chunk
        raise NotFound("the source is gone")

    for sent_bytes in (0, 100_000, 2 * PART_BYTES + 100):
        with pytest.raises(NotFound, match="the source is gone"):
            await store.put("t/a", failing(sent_bytes))
        assert await store.list("") == []
    await store.put("t/a", chunks_of(b"x"))
    assert await store.read("t/a", 0, 10) == b"x"


async def test_a_segment_being_written_is_not_visible(store: SegmentStore) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield content_of(2 * PART_BYTES)
        halfway.set()
        await go_on.wait()
        yield b"end"

    put = asyncio.create_task(store.put("t/a", slow()))
    await halfway.wait()
    assert await store.list("") == []
    with pytest.raises(NotFound):
        await store.size("t/a")
    go_on.set()
    await put
    assert await store.size("t/a") == 2 * PART_BYTES + 3


async def test_a_key_that_breaks_the_rules_is_refused(store: SegmentStore) -> None:
    for key in [*BAD_KEYS, "a" * (KEY_PART_LENGTH_MAX + 1), "ab/" * (KEY_LENGTH_MAX // 3) + "abc"]:
        with pytest.raises(InvalidInput):
            await store.put(key, chunks_of(b"x"))
        with pytest.raises(InvalidInput):
            await store.read(key, 0, 1)
        with pytest.raises(InvalidInput):
            await store.size(key)
        with pytest.raises(InvalidInput):
            await store.delete(key)
    longest = "ab/" * (KEY_LENGTH_MAX // 3 - 40) + "a" * (KEY_LENGTH_MAX - 3 * (KEY_LENGTH_MAX // 3 - 40) - 2)
    await store.put(longest, chunks_of(b"x"))
    assert await store.list("") == [longest]


async def test_a_range_that_breaks_the_rules_is_refused(store: SegmentStore) -> None:
    for offset, length in [(-1, 1), (0, -1), (0, READ_BYTES_MAX + 1), (1 << 62, 1)]:
        with pytest.raises(InvalidInput):
            await store.read("a", offset, length)


async def test_a_server_killed_in_the_middle_leaves_nothing_half_visible(s3_server: S3Server) -> None:
    store = await S3Store.connect(BUCKET, endpoint_url=s3_server.endpoint, attempts_max=2)
    content = content_of(4 * PART_BYTES)

    killing: dict[str, asyncio.Task[None]] = {}

    async def cut_off() -> AsyncIterator[bytes]:
        yield content[: 2 * PART_BYTES]
        # Not within this generator, which the failing upload cancels.
        await asyncio.shield(killing.setdefault("task", asyncio.create_task(s3_server.kill())))
        yield content[2 * PART_BYTES :]

    try:
        with pytest.raises(StoreUnavailable):
            await store.put("t/a", cut_off())
        await killing["task"]
        for call in (store.size("t/a"), store.read("t/a", 0, 1), store.list(""), store.delete("t/a")):
            with pytest.raises(StoreUnavailable):
                await call
        await s3_server.restart()
        assert await store.list("") == []
        with pytest.raises(NotFound):
            await store.size("t/a")
        await store.put("t/a", chunks_of(content, MIB))
        assert await store.read("t/a", 0, READ_BYTES_MAX) == content
    finally:
        await store.close()


async def test_a_missing_bucket_is_no_missing_segment(s3_server: S3Server) -> None:
    store = await S3Store.connect("no-such-bucket", endpoint_url=s3_server.endpoint, attempts_max=1)
    for call in (store.size("a"), store.read("a", 0, 1), store.put("a", chunks_of(b"x"))):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.size("a")
