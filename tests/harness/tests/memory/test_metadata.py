from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from danube_common.errors import InvalidInput, MetadataUnavailable
from danube_common.metadata.port import Change, WatchLost
from danube_harness.memory.metadata import MemoryMetadata


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_handles_share_one_store() -> None:
    first = MemoryMetadata()
    revision = await first.put("/a", b"1")
    entry = await first.handle().get("/a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"1", revision)


async def test_a_watch_wakes_at_the_end_of_a_lifetime_by_itself() -> None:
    store = MemoryMetadata()
    revision = await store.put("/a/k", b"1", ttl_s=1)
    async with aclosing(store.watch("/a/", after_revision=revision)) as changes:
        change = await anext(changes)
    assert (change.key, change.value) == ("/a/k", None)
    assert await store.get("/a/k") is None


async def test_the_injected_clock_decides_what_has_expired() -> None:
    clock = Clock()
    store = MemoryMetadata(clock)
    await store.put("/a", b"1", ttl_s=5)
    clock.now_s = 4.9
    assert await store.get("/a") is not None
    clock.now_s = 5.0
    assert await store.get("/a") is None


async def test_a_handle_out_of_reach_refuses_while_the_others_go_on() -> None:
    store = MemoryMetadata()
    cut_off = store.handle()
    cut_off.reachable = False
    assert not cut_off.connected
    with pytest.raises(MetadataUnavailable):
        await cut_off.put("/a", b"1")
    assert await store.get("/a") is None


async def test_a_watch_out_of_reach_misses_nothing_when_it_is_back() -> None:
    store = MemoryMetadata()
    cut_off = store.handle()
    async with aclosing(cut_off.watch("/a/", after_revision=0)) as changes:
        cut_off.reachable = False
        waiting = asyncio.ensure_future(anext(changes))
        first = await store.put("/a/1", b"1")
        second = await store.put("/a/2", b"2")
        assert not waiting.done()
        cut_off.reachable = True
        assert await waiting == Change("/a/1", b"1", first)
        assert await anext(changes) == Change("/a/2", b"2", second)


async def test_a_compacted_watch_is_lost() -> None:
    store = MemoryMetadata()
    await store.put("/a/1", b"1")
    revision = await store.put("/a/2", b"1")
    store.state.compact(revision - 1)
    with pytest.raises(WatchLost):
        await anext(store.watch("/a/", after_revision=0))


@pytest.mark.parametrize("key", ["", "/", "a", "/a/", "//a", "/a b", "/a/.", "/ä", "/a*", "/a\n"])
async def test_a_key_outside_the_rules_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        await MemoryMetadata().put(key, b"")


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
async def test_a_lifetime_that_is_no_lifetime_is_refused(ttl_s: float) -> None:
    with pytest.raises(InvalidInput):
        await MemoryMetadata().put("/a", b"", ttl_s=ttl_s)


async def test_close_ends_watches() -> None:
    store = MemoryMetadata()
    changes = store.watch("/", after_revision=0)
    waiting = asyncio.ensure_future(anext(changes, None))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting is None
