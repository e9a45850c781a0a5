"""What every metadata store promises, asked of each implementation with its real server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.errors import Conflict, InvalidInput, MetadataUnavailable
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.jetstream import MARKER_TTL_S, JetStreamMetadata
from danube_common.metadata.key import VALUE_BYTES_MAX
from danube_common.metadata.lease import Lease
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, Entry, Listing, MetadataStore, WatchLost
from danube_common.nats.connection import Connection
from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer

PATIENCE_S = 20.0
VIEWS_MAX = 8


class Backend(ABC):
    """One kind of store with the power over its server."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.stack = stack

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def store(self) -> MetadataStore:
        """Another handle, as another process would have it."""

    @abstractmethod
    async def kill(self) -> None:
        """kill -9 of the server."""

    @abstractmethod
    async def restart(self) -> None: ...

    @abstractmethod
    async def forget(self, revision: int) -> None:
        """Make the store forget the changes up to ``revision``, as its housekeeping would in time."""

    @abstractmethod
    def pause(self) -> None:
        """The server stops answering without closing a connection."""

    @abstractmethod
    def resume(self) -> None: ...


class Memory(Backend):
    async def start(self) -> None:
        self.root = MemoryMetadata()
        self.handles: list[MemoryMetadata] = []

    async def store(self) -> MetadataStore:
        self.handles.append(self.root.handle())
        return self.handles[-1]

    async def kill(self) -> None:
        self.pause()

    async def restart(self) -> None:
        self.resume()

    async def forget(self, revision: int) -> None:
        self.root.state.compact(revision)

    def pause(self) -> None:
        for handle in self.handles:
            handle.reachable = False

    def resume(self) -> None:
        for handle in self.handles:
            handle.reachable = True


class JetStream(Backend):
    marker_ttl_s = MARKER_TTL_S

    async def start(self) -> None:
        self.server = await self.stack.enter_async_context(NatsServer.run(self.directory))

    async def store(self) -> MetadataStore:
        connection = await Connection.open(
            self.server.url, name="contract", reconnect_wait_s=0.05, connect_timeout_s=5.0
        )
        self.stack.push_async_callback(connection.shut)
        return await JetStreamMetadata.open(connection, marker_ttl_s=self.marker_ttl_s)

    async def kill(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.restart()

    async def forget(self, revision: int) -> None:  # noqa: ARG002 - it goes by age
        # What this bucket forgets is deletions, by their age.
        self.marker_ttl_s = 1
        await self.store()
        await asyncio.sleep(self.marker_ttl_s)

    def pause(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)


class Etcd(Backend):
    async def start(self) -> None:
        self.server = await self.stack.enter_async_context(EtcdServer.run(self.directory))

    async def store(self) -> MetadataStore:
        store = await EtcdMetadata.connect([self.server.endpoint])
        self.stack.push_async_callback(store.close)
        return store

    async def kill(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.restart()

    async def forget(self, revision: int) -> None:
        async with grpc.aio.insecure_channel(self.server.endpoint.removeprefix("http://")) as channel:
            await rpc.KVStub(channel).Compact(rpc.CompactionRequest(revision=revision, physical=True))

    def pause(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)


BACKENDS: dict[str, type[Backend]] = {"memory": Memory, "jetstream": JetStream, "etcd": Etcd}


@pytest_asyncio.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        backend = BACKENDS[request.param](tmp_path, stack)
        await backend.start()
        yield backend


@pytest_asyncio.fixture
async def store(backend: Backend) -> AsyncIterator[MetadataStore]:
    store = await backend.store()
    yield store
    await store.close()


def watching(store: MetadataStore, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
    changes = store.watch(prefix, after_revision=after_revision)
    assert isinstance(changes, AsyncGenerator)
    return changes


async def changes_until(
    store: MetadataStore, prefix: str, after_revision: int, enough: Callable[[list[Change]], bool]
) -> list[Change]:
    seen: list[Change] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(watching(store, prefix, after_revision)) as changes:
        while not enough(seen):
            seen.append(await anext(changes))
    return seen


def folded(changes: list[Change]) -> dict[str, bytes]:
    state: dict[str, bytes] = {}
    for change in changes:
        if change.value is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.value
    return state


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


# Watching


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
