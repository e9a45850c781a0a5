"""What every metadata store promises to watches and mirrors, asked of each with its real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from danube_common.errors import MetadataUnavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, Entry, Listing, MetadataStore, WatchLost
from danube_harness.servers.metadata_backends import (
    PATIENCE_S,
    VIEWS_MAX,
    Backend,
    changes_until,
    folded,
    watching,
)


async def test_a_watch_shows_changes_in_order_of_revision(backend: Backend, store: MetadataStore) -> None:
    watcher = await backend.store()
    start = (await store.list("/a/")).revision
    watching = asyncio.create_task(
        changes_until(watcher, "/a/", start, lambda seen: bool(seen) and seen[-1].value is None)
    )
    await store.put("/a/1", b"1")
    await store.put("/ab/1", b"1")
    second = await store.put("/a/2", b"2")
    await store.delete("/a/1")
    changes = await watching
    # The first change may be folded into the deletion when the watch began after both.
    assert changes[-2] == Change("/a/2", b"2", second)
    assert changes[-1].key == "/a/1"
    assert {c.key for c in changes} == {"/a/1", "/a/2"}
    revisions = [c.revision for c in changes]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > start


async def test_a_watch_from_a_listing_misses_nothing_under_concurrent_writes(
    backend: Backend, store: MetadataStore
) -> None:
    watchers = [await backend.store() for _ in range(3)]
    writes = 0

    async def write(writer: int) -> None:
        nonlocal writes
        for n in range(60):
            key = f"/a/{writer}-{n % 7}"
            if n % 5 == 4:
                await store.delete(key)
            else:
                await store.put(key, str(n).encode())
            writes += 1

    listed = asyncio.Semaphore(0)

    async def view(watcher: MetadataStore) -> dict[str, bytes]:
        listing = await watcher.list("/a/")
        listed.release()
        changes = await changes_until(
            watcher, "/a/", listing.revision, lambda seen: bool(seen) and seen[-1].key == "/a/end"
        )
        return folded([*(Change(e.key, e.value, e.revision) for e in listing.entries), *changes])

    writing = asyncio.gather(*(write(writer) for writer in range(4)))
    views: list[asyncio.Task[dict[str, bytes]]] = []
    while not writing.done() and len(views) < VIEWS_MAX:
        views.append(asyncio.create_task(view(watchers[len(views) % 3])))
        await listed.acquire()
    assert writes < 240, "the views are to begin while there are writes"
    await writing
    await store.put("/a/end", b"end")
    truth = {entry.key: entry.value for entry in (await store.list("/a/")).entries}
    for seen in await asyncio.gather(*views):
        assert seen == truth


async def test_a_watch_survives_a_killed_server(backend: Backend, store: MetadataStore) -> None:
    watcher = await backend.store()
    start = await store.put("/a/kept", b"1")
    await store.put("/a/lease", b"1", ttl_s=1)
    changes = watching(watcher, "/a/", start)
    async with asyncio.timeout(PATIENCE_S), aclosing(changes):
        assert (await anext(changes)).key == "/a/lease"
        waiting = asyncio.ensure_future(anext(changes))
        await backend.kill()
        await backend.restart()
        writer = await backend.store()
        await writer.put("/a/added", b"2")
        await writer.delete("/a/kept")
        seen = [await waiting]
        while len({change.key for change in seen}) < 3:
            seen.append(await anext(changes))
    assert {c.key: c.value for c in seen} == {"/a/lease": None, "/a/added": b"2", "/a/kept": None}


async def test_a_mirror_survives_killed_servers(backend: Backend, store: MetadataStore) -> None:
    reader = await backend.store()
    seen: dict[str, bytes] = {}

    def follow(change: Change) -> None:
        if change.value is None:
            del seen[change.key]
        else:
            seen[change.key] = change.value

    await store.put("/a/doomed", b"1")
    mirror = await Mirror.open(reader, "/a/", follow)
    for round_ in range(3):
        await backend.kill()
        await backend.restart()
        writer = await backend.store()
        await writer.put(f"/a/{round_}", b"1")
        await writer.delete("/a/doomed")
        revision = await writer.put("/a/round", str(round_).encode())
        await mirror.catch_up(revision, PATIENCE_S)
        truth = {entry.key: entry.value for entry in (await writer.list("/a/")).entries}
        assert {entry.key: entry.value for entry in mirror.entries()} == truth
        assert seen == truth
    await mirror.close()


async def test_a_watch_of_forgotten_history_is_lost(backend: Backend, store: MetadataStore) -> None:
    first = await store.put("/a/kept", b"1")
    await store.put("/a/deleted", b"1")
    await store.delete("/a/deleted")
    last = await store.put("/a/kept", b"2")
    await backend.forget(last)
    watcher = await backend.store()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(WatchLost):
            await anext(watching(watcher, "/a/", first))
        listing = await watcher.list("/a/")
        added = await store.put("/a/added", b"3")
        async with aclosing(watching(watcher, "/a/", listing.revision)) as changes:
            assert await anext(changes) == Change("/a/added", b"3", added)


class FirstListsThePast:
    """A store whose first listing is an old one, as if what followed had taken very long."""

    def __init__(self, store: MetadataStore, past: Listing) -> None:
        self._store = store
        self._past: Listing | None = past

    @property
    def connected(self) -> bool:
        return self._store.connected

    async def list(self, prefix: str) -> Listing:
        past, self._past = self._past, None
        return past or await self._store.list(prefix)

    async def get(self, key: str) -> Entry | None:
        return await self._store.get(key)

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        return await self._store.put(key, value, expected_revision=expected_revision, ttl_s=ttl_s)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        return await self._store.delete(key, expected_revision=expected_revision)

    def watch(self, prefix: str, *, after_revision: int) -> AsyncIterator[Change]:
        return self._store.watch(prefix, after_revision=after_revision)

    async def close(self) -> None:
        await self._store.close()


async def test_a_mirror_lists_again_when_history_is_forgotten(backend: Backend, store: MetadataStore) -> None:
    await store.put("/a/deleted", b"1")
    await store.put("/a/same", b"1")
    await store.put("/a/changed", b"1")
    past = await store.list("/a/")
    await store.delete("/a/deleted")
    last = await store.put("/a/changed", b"2")
    await backend.forget(last)
    seen: list[Change] = []
    mirror = await Mirror.open(FirstListsThePast(await backend.store(), past), "/a/", seen.append)
    await mirror.wait_for(lambda m: m.revision >= last, PATIENCE_S)
    await mirror.close()
    assert {c.key: c.value for c in seen[:3]} == {"/a/deleted": b"1", "/a/same": b"1", "/a/changed": b"1"}
    assert {c.key: c.value for c in seen[3:]} == {"/a/deleted": None, "/a/changed": b"2"}


async def test_closing_ends_a_watch(store: MetadataStore) -> None:
    changes = watching(store, "/a/", 0)
    revision = await store.put("/a/1", b"")
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(changes)).revision == revision
        waiting = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert await waiting is None
    assert not store.connected
    with pytest.raises(MetadataUnavailable):
        await store.get("/a/1")
