"""What every metadata store promises, asked of each implementation with its real server."""

from __future__ import annotations

import asyncio
import time

import pytest

from danube_common.errors import Conflict, InvalidInput, MetadataUnavailable
from danube_common.metadata.key import VALUE_BYTES_MAX
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import Entry, MetadataStore
from danube_harness.servers.metadata_backends import (
    PATIENCE_S,
    Backend,
    changes_until,
    folded,
)

# Reading and writing


async def test_what_was_put_is_read_by_another_handle(backend: Backend, store: MetadataStore) -> None:
    other = await backend.store()
    revision = await store.put("/namespaces/default/policy", b"\x00value\r\n")
    assert await other.get("/namespaces/default/policy") == Entry(
        "/namespaces/default/policy", b"\x00value\r\n", revision
    )
    assert await other.get("/namespaces/default") is None
    assert store.connected


async def test_revisions_grow_with_every_change_anywhere(store: MetadataStore) -> None:
    revisions = [await store.put(f"/a/{n % 2}", b"") for n in range(4)]
    await store.delete("/a/0")
    revisions += [await store.put("/b", b"")]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > 0
    assert (await store.list("/")).revision == revisions[-1]


async def test_the_largest_value_is_stored_and_a_larger_one_refused(store: MetadataStore) -> None:
    value = bytes(VALUE_BYTES_MAX)
    await store.put("/a/large", value)
    entry = await store.get("/a/large")
    assert entry is not None
    assert entry.value == value
    with pytest.raises(InvalidInput):
        await store.put("/a/large", value + b"x")


@pytest.mark.parametrize("key", ["", "/", "a", "/a/", "//a", "/a b", "/a.b", "/a/*", "/a/>", "/ä"])
async def test_a_key_outside_the_rules_is_refused(key: str, store: MetadataStore) -> None:
    with pytest.raises(InvalidInput):
        await store.put(key, b"")
    with pytest.raises(InvalidInput):
        await store.get(key)
    with pytest.raises(InvalidInput):
        await store.delete(key)


async def test_a_listing_takes_whole_names_only(store: MetadataStore) -> None:
    for key in ("/topics/a", "/topics/a/x", "/topics/ab/x", "/topics/a-b/x", "/topics/a/y/z", "/other/a"):
        await store.put(key, key.encode())
    listing = await store.list("/topics/a/")
    assert [(entry.key, entry.value) for entry in listing.entries] == [
        ("/topics/a/x", b"/topics/a/x"),
        ("/topics/a/y/z", b"/topics/a/y/z"),
    ]
    with pytest.raises(InvalidInput):
        await store.list("/topics/a")


async def test_a_listing_is_sorted_and_holds_no_deleted_key(store: MetadataStore) -> None:
    for key in ("/a/c", "/a/a", "/a/b", "/a/a/a", "/a/a-a"):
        await store.put(key, b"")
    await store.delete("/a/b")
    keys = [entry.key for entry in (await store.list("/a/")).entries]
    assert keys == sorted(keys)
    assert set(keys) == {"/a/c", "/a/a", "/a/a/a", "/a/a-a"}


async def test_a_large_listing_is_complete(store: MetadataStore) -> None:
    keys = {f"/topics/default/t{n}/definition" for n in range(700)}
    await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
    listing = await store.list("/topics/")
    assert {entry.key: entry.value for entry in listing.entries} == {key: key.encode() for key in keys}


# Compare-and-set


async def test_of_racing_creations_exactly_one_wins(backend: Backend) -> None:
    stores = [await backend.store() for _ in range(4)]

    async def create(n: int) -> tuple[int, int] | None:
        try:
            return n, await stores[n % 4].put("/cluster/leader", str(n).encode(), expected_revision=0)
        except Conflict:
            return None

    winners = [won for won in await asyncio.gather(*(create(n) for n in range(20))) if won]
    assert len(winners) == 1
    winner, revision = winners[0]
    assert await stores[0].get("/cluster/leader") == Entry("/cluster/leader", str(winner).encode(), revision)


async def test_racing_increments_lose_nothing(backend: Backend) -> None:
    stores = [await backend.store() for _ in range(3)]
    await stores[0].put("/counter", b"0")

    async def increment(store: MetadataStore) -> None:
        while True:
            entry = await store.get("/counter")
            assert entry is not None
            try:
                await store.put(
                    "/counter", str(int(entry.value) + 1).encode(), expected_revision=entry.revision
                )
            except Conflict:
                continue
            return

    await asyncio.gather(*(increment(stores[n % 3]) for n in range(15)))
    entry = await stores[0].get("/counter")
    assert entry is not None
    assert entry.value == b"15"


async def test_a_put_at_an_older_revision_conflicts_and_changes_nothing(store: MetadataStore) -> None:
    first = await store.put("/a", b"1")
    second = await store.put("/a", b"2", expected_revision=first)
    with pytest.raises(Conflict):
        await store.put("/a", b"3", expected_revision=first)
    with pytest.raises(Conflict):
        await store.put("/a", b"3", expected_revision=0)
    assert await store.get("/a") == Entry("/a", b"2", second)


async def test_a_deleted_key_counts_as_absent(store: MetadataStore) -> None:
    first = await store.put("/a", b"1")
    assert await store.delete("/a")
    assert not await store.delete("/a")
    deletion = (await store.list("/")).revision
    assert await store.get("/a") is None
    for revision in (first, deletion):
        with pytest.raises(Conflict):
            await store.put("/a", b"2", expected_revision=revision)
    again = await store.put("/a", b"3", expected_revision=0)
    assert await store.get("/a") == Entry("/a", b"3", again)
    with pytest.raises(Conflict):
        await store.put("/a", b"4", expected_revision=0)


async def test_a_delete_obeys_its_condition(store: MetadataStore) -> None:
    first = await store.put("/a", b"1")
    second = await store.put("/a", b"2")
    for wrong in (first, 0):
        with pytest.raises(Conflict):
            await store.delete("/a", expected_revision=wrong)
    assert await store.delete("/a", expected_revision=second)
    with pytest.raises(Conflict):
        await store.delete("/a", expected_revision=second)
    assert not await store.delete("/a", expected_revision=0)


# Lifetimes


async def test_the_end_of_a_lifetime_is_seen_as_a_deletion(backend: Backend, store: MetadataStore) -> None:
    revision = await store.put("/a/lease", b"1", ttl_s=1)
    watcher = await backend.store()
    changes = await changes_until(watcher, "/a/", revision, bool)
    assert changes[0].key == "/a/lease"
    assert changes[0].value is None
    assert changes[0].revision > revision
    assert await store.get("/a/lease") is None
    assert (await store.list("/a/")).entries == ()
    with pytest.raises(Conflict):
        await store.put("/a/lease", b"2", expected_revision=revision)
    with pytest.raises(Conflict):
        await store.put("/a/lease", b"2", expected_revision=changes[0].revision)
    await store.put("/a/lease", b"2", expected_revision=0)


async def test_putting_again_renews_the_lifetime(store: MetadataStore) -> None:
    began_at = time.monotonic()
    revision = first = await store.put("/a/lease", b"0", ttl_s=2)
    while time.monotonic() - began_at < 2.5:
        await asyncio.sleep(0.1)
        revision = await store.put("/a/lease", b"1", expected_revision=revision, ttl_s=2)
    assert await store.get("/a/lease") == Entry("/a/lease", b"1", revision)
    changes = await changes_until(store, "/a/", first, lambda seen: bool(seen) and seen[-1].value is None)
    assert folded(changes) == {}


async def test_a_refused_put_does_not_renew_the_lifetime(store: MetadataStore) -> None:
    revision = await store.put("/a/lease", b"1", ttl_s=2)

    async def refuse() -> None:
        while True:
            with pytest.raises(Conflict):
                await store.put("/a/lease", b"2", expected_revision=revision + 1, ttl_s=2)
            await asyncio.sleep(0.2)

    refusing = asyncio.create_task(refuse())
    changes = await changes_until(store, "/a/", revision, bool)
    refusing.cancel()
    await asyncio.gather(refusing, return_exceptions=True)
    assert changes[0].value is None


async def test_a_put_without_a_lifetime_makes_the_key_stay(store: MetadataStore) -> None:
    await store.put("/a/lease", b"1", ttl_s=1)
    revision = await store.put("/a/lease", b"2")
    clock = await store.put("/a/clock", b"", ttl_s=2)
    await changes_until(store, "/a/", clock, lambda seen: bool(seen) and seen[-1].value is None)
    assert await store.get("/a/lease") == Entry("/a/lease", b"2", revision)


async def test_another_writer_inherits_no_lifetime(backend: Backend, store: MetadataStore) -> None:
    other = await backend.store()
    await store.put("/a/lease", b"1", ttl_s=1)
    revision = await other.put("/a/lease", b"2")
    clock = await store.put("/a/clock", b"", ttl_s=2)
    await changes_until(store, "/a/", clock, lambda seen: bool(seen) and seen[-1].value is None)
    assert await store.get("/a/lease") == Entry("/a/lease", b"2", revision)


# A server that is away


async def test_a_store_without_its_server_says_so_and_recovers(
    backend: Backend, store: MetadataStore
) -> None:
    revision = await store.put("/a", b"1")
    await backend.kill()
    answers = await asyncio.gather(
        store.get("/a"),
        store.list("/"),
        store.put("/b", b"2"),
        store.delete("/a"),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [MetadataUnavailable] * 4
    assert not store.connected
    await backend.restart()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                entry = await store.get("/a")
            except MetadataUnavailable:
                continue
            break
    assert entry == Entry("/a", b"1", revision)
    assert store.connected


async def test_a_lease_is_lost_while_the_server_is_paused(backend: Backend, store: MetadataStore) -> None:
    lease = await Lease.acquire(store, "/cluster/leader", b"me", 1)
    backend.pause()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await lease.lost.wait()
        assert not lease.held
    finally:
        backend.resume()
    other = await backend.store()
    await changes_until(
        other, "/cluster/", lease.revision, lambda seen: bool(seen) and seen[-1].value is None
    )
    await other.put("/cluster/leader", b"other", expected_revision=0)
    await lease.release()
    entry = await other.get("/cluster/leader")
    assert entry is not None
    assert entry.value == b"other"


async def test_a_lease_survives_a_killed_server(backend: Backend, store: MetadataStore) -> None:
    lease = await Lease.acquire(store, "/cluster/leader", b"me", 10)
    held = lease.revision
    await backend.kill()
    await backend.restart()
    other = await backend.store()
    changes = await changes_until(other, "/cluster/", held, bool)
    assert changes[0].value == b"me"
    assert lease.held
    await lease.release()
    assert await other.get("/cluster/leader") is None
