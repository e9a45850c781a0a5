from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from structlog.testing import capture_logs

from danube_common.errors import MetadataUnavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, Listing, WatchLost
from danube_harness.memory.metadata import MemoryMetadata

PATIENCE_S = 10.0


class Breakable(MemoryMetadata):
    """A store whose watches can be broken from the test."""

    def __init__(self) -> None:
        super().__init__()
        self.breaking: Exception | None = None
        self.broken = asyncio.Event()

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Change, None]:
        async for change in super().watch(prefix, after_revision=after_revision):
            if self.breaking is not None:
                self.broken.set()
                raise self.breaking
            yield change

    async def list(self, prefix: str) -> Listing:
        if self.breaking is not None:
            raise MetadataUnavailable("still broken")
        return await super().list(prefix)


async def test_a_mirror_tells_the_initial_entries_and_each_change_after() -> None:
    store = MemoryMetadata()
    await store.put("/a/2", b"2")
    await store.put("/a/1", b"1")
    await store.put("/b/1", b"1")
    seen: list[Change] = []
    mirror = await Mirror.open(store, "/a/", seen.append)
    assert [(c.key, c.value) for c in seen] == [("/a/1", b"1"), ("/a/2", b"2")]
    await store.put("/a/3", b"3")
    await store.delete("/a/1")
    await mirror.wait_for(lambda m: len(m.entries()) == 2 and m.get("/a/1") is None, PATIENCE_S)
    assert [(c.key, c.value) for c in seen[2:]] == [("/a/3", b"3"), ("/a/1", None)]
    assert [e.key for e in mirror.entries()] == ["/a/2", "/a/3"]
    await mirror.close()


async def test_entries_below_a_prefix_only() -> None:
    store = MemoryMetadata()
    for key in ("/a/x/1", "/a/xy/1", "/a/x/2"):
        await store.put(key, b"")
    mirror = await Mirror.open(store, "/a/")
    assert [e.key for e in mirror.entries("/a/x/")] == ["/a/x/1", "/a/x/2"]
    await mirror.close()


@pytest.mark.parametrize("fault", [WatchLost("gone"), MetadataUnavailable("away"), RuntimeError("a defect")])
async def test_after_a_loss_only_real_differences_are_told(fault: Exception) -> None:
    store = Breakable()
    for key in ("/a/same", "/a/changed", "/a/deleted"):
        await store.put(key, b"1")
    seen: list[Change] = []
    mirror = await Mirror.open(store, "/a/", seen.append)
    del seen[:]
    store.breaking = fault
    changed = await store.put("/a/changed", b"2")
    await store.broken.wait()
    await store.delete("/a/deleted")
    added = await store.put("/a/added", b"2")
    with capture_logs() as logs:
        store.breaking = None
        await mirror.catch_up(added, PATIENCE_S)
    await mirror.close()
    assert {c.key: c.value for c in seen} == {"/a/changed": b"2", "/a/deleted": None, "/a/added": b"2"}
    assert len(seen) == 3
    assert Change("/a/changed", b"2", changed) in seen
    assert not [entry for entry in logs if entry["event"] == "mirror_ended"]


async def test_what_a_listener_raises_does_not_stop_the_mirror() -> None:
    def listener(change: Change) -> None:
        raise ValueError(change.key)

    store = MemoryMetadata()
    await store.put("/a/1", b"1")
    with capture_logs() as logs:
        mirror = await Mirror.open(store, "/a/", listener)
        await mirror.catch_up(await store.put("/a/2", b"2"), PATIENCE_S)
    assert [e.key for e in mirror.entries()] == ["/a/1", "/a/2"]
    assert [entry["key"] for entry in logs if entry["event"] == "mirror_listener_failed"] == ["/a/1", "/a/2"]
    await mirror.close()


async def test_a_mirror_catches_up_with_a_revision_of_another_prefix() -> None:
    store = MemoryMetadata()
    mirror = await Mirror.open(store, "/a/")
    revision = await store.put("/b/1", b"1")
    await mirror.catch_up(revision, PATIENCE_S)
    assert mirror.revision >= revision
    await mirror.close()


async def test_a_revision_that_does_not_come_is_reported_as_unavailable() -> None:
    store = MemoryMetadata()
    mirror = await Mirror.open(store, "/a/")
    with pytest.raises(MetadataUnavailable, match="not at 100"):
        await mirror.catch_up(100, 0.5)
    await mirror.close()


async def test_a_predicate_that_does_not_come_true_times_out() -> None:
    mirror = await Mirror.open(MemoryMetadata(), "/a/")
    with pytest.raises(TimeoutError):
        await mirror.wait_for(lambda m: m.get("/a/1") is not None, 0.01)
    await mirror.close()


async def test_a_mirror_of_a_store_that_is_away_does_not_open() -> None:
    store = MemoryMetadata()
    store.reachable = False
    with pytest.raises(MetadataUnavailable):
        await Mirror.open(store, "/a/")


async def test_closing_the_store_ends_the_mirror_and_its_waiters_are_told() -> None:
    store = MemoryMetadata()
    mirror = await Mirror.open(store, "/a/")
    waiting = asyncio.ensure_future(mirror.wait_for(lambda m: m.get("/a/1") is not None, PATIENCE_S))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(MetadataUnavailable):
        await waiting
    assert mirror.closed
    await mirror.close()
