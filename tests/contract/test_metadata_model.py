"""Random histories of a metadata store, compared with a dictionary."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from danube_common.errors import Conflict
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.port import Change, Entry, MetadataStore
from danube_common.nats.connection import Connection
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer

T = TypeVar("T")

KEYS = ("/a", "/a/x", "/a/x/1", "/a/y", "/ab/x", "/b")
PREFIXES = ("/", "/a/", "/a/x/", "/ab/")
PATIENCE_S = 10.0

keys = st.sampled_from(KEYS)
values = st.binary(max_size=8)


class StoreModel(RuleBasedStateMachine):
    """Every answer is the dictionary's; every watch, folded over its listing, ends at the dictionary."""

    runner: asyncio.Runner
    open_store: Callable[[], Awaitable[MetadataStore]]

    @initialize()
    def open(self) -> None:
        self.store = self.run(self.open_store())
        self.model: dict[str, Entry] = {}
        self.revisions: list[int] = [0]
        self.deletions: dict[str, int] = {}
        self.views: list[tuple[str, dict[str, bytes], int]] = []

    def run(self, awaitable: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE_S):
                return await awaitable

        return self.runner.run(bounded())

    def present(self, key: str) -> int:
        entry = self.model.get(key)
        return 0 if entry is None else entry.revision

    @rule(key=keys, value=values)
    def put(self, key: str, value: bytes) -> None:
        self.stored(key, value, self.run(self.store.put(key, value)))

    @rule(key=keys, value=values)
    def put_at_its_revision(self, key: str, value: bytes) -> None:
        expected = self.present(key)
        self.stored(key, value, self.run(self.store.put(key, value, expected_revision=expected)))

    @rule(key=keys, value=values, data=st.data())
    def put_at_some_revision(self, key: str, value: bytes, data: st.DataObject) -> None:
        expected = data.draw(st.sampled_from(self.revisions))
        if expected == self.present(key):
            self.stored(key, value, self.run(self.store.put(key, value, expected_revision=expected)))
        else:
            with pytest.raises(Conflict):
                self.run(self.store.put(key, value, expected_revision=expected))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        deleted = self.run(self.store.delete(key))
        assert deleted == (self.model.pop(key, None) is not None)
        if deleted:
            self.deletions[key] = self.run(self.store.list("/")).revision

    @precondition(lambda self: bool(self.deletions))
    @rule(value=values, data=st.data())
    def put_at_the_revision_of_a_deletion(self, value: bytes, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.deletions)))
        with pytest.raises(Conflict):
            self.run(self.store.put(key, value, expected_revision=self.deletions[key]))

    @rule(key=keys, data=st.data())
    def delete_at_some_revision(self, key: str, data: st.DataObject) -> None:
        expected = data.draw(st.sampled_from(self.revisions))
        if expected == self.present(key):
            deleted = self.run(self.store.delete(key, expected_revision=expected))
            assert deleted == (self.model.pop(key, None) is not None)
        else:
            with pytest.raises(Conflict):
                self.run(self.store.delete(key, expected_revision=expected))

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.run(self.store.get(key)) == self.model.get(key)

    @rule(prefix=st.sampled_from(PREFIXES))
    def list(self, prefix: str) -> None:
        listing = self.run(self.store.list(prefix))
        assert listing.entries == tuple(
            self.model[key] for key in sorted(self.model) if key.startswith(prefix)
        )
        assert listing.revision >= max(self.revisions)
        self.views.append((prefix, {e.key: e.value for e in listing.entries}, listing.revision))

    @precondition(lambda self: bool(self.views))
    @rule(data=st.data())
    def watch(self, data: st.DataObject) -> None:
        prefix, view, revision = data.draw(st.sampled_from(self.views))
        end = f"{prefix}end"
        self.stored(end, b"", self.run(self.store.put(end, b"")))
        seen = self.run(self.changes_until(prefix, revision, self.model[end].revision))
        assert [c.revision for c in seen] == sorted({c.revision for c in seen})
        assert all(change.revision > revision for change in seen)
        folded = dict(view)
        for change in seen:
            if change.value is None:
                folded.pop(change.key, None)
            else:
                folded[change.key] = change.value
        assert folded == {k: e.value for k, e in self.model.items() if k.startswith(prefix)}

    async def changes_until(self, prefix: str, after_revision: int, revision: int) -> tuple[Change, ...]:
        seen: tuple[Change, ...] = ()
        changes: Any = self.store.watch(prefix, after_revision=after_revision)
        async for change in changes:
            seen += (change,)
            if change.revision >= revision:
                break
        await changes.aclose()
        return seen

    def stored(self, key: str, value: bytes, revision: int) -> None:
        assert revision > max(self.revisions)
        self.revisions.append(revision)
        self.model[key] = Entry(key, value, revision)

    def teardown(self) -> None:
        self.run(self.store.close())


class MemoryModel(StoreModel):
    """With lifetimes, which a clock of the test's own ends."""

    @initialize()
    def open(self) -> None:
        self.now_s = 0.0
        self.ends: dict[str, float] = {}
        super().open()

    @rule(key=keys, value=values, ttl_s=st.floats(0.1, 5))
    def put_with_a_lifetime(self, key: str, value: bytes, ttl_s: float) -> None:
        self.stored(key, value, self.run(self.store.put(key, value, ttl_s=ttl_s)))
        self.ends[key] = self.now_s + -(-ttl_s // 1)

    @rule(passed_s=st.floats(0, 3))
    def time_passes(self, passed_s: float) -> None:
        self.now_s += passed_s

    def stored(self, key: str, value: bytes, revision: int) -> None:
        super().stored(key, value, revision)
        self.ends.pop(key, None)

    @invariant()
    def what_has_ended_is_gone(self) -> None:
        for key in [key for key, end in self.ends.items() if end <= self.now_s]:
            del self.ends[key]
            self.model.pop(key, None)


def check(
    runner: asyncio.Runner,
    machine: type[StoreModel],
    open_store: Callable[[StoreModel], Awaitable[MetadataStore]],
    *,
    examples: int,
    steps: int,
) -> None:
    class Machine(machine):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            super().__init__()
            self.runner = runner

        async def open_store(self) -> MetadataStore:
            return await open_store(self)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_a_store_in_memory_behaves_as_a_dictionary(runner: asyncio.Runner) -> None:
    async def open_store(machine: StoreModel) -> MetadataStore:
        assert isinstance(machine, MemoryModel)
        return MemoryMetadata(lambda: machine.now_s)

    check(runner, MemoryModel, open_store, examples=100, steps=40)


def test_a_store_in_jetstream_behaves_as_a_dictionary(runner: asyncio.Runner, tmp_path: Path) -> None:
    buckets = itertools.count()

    async def connect() -> Connection:
        server = await stack.enter_async_context(NatsServer.run(tmp_path))
        connection = await Connection.open(
            server.url, name="model", reconnect_wait_s=0.05, connect_timeout_s=5.0
        )
        stack.push_async_callback(connection.shut)
        return connection

    async def open_store(_: StoreModel) -> MetadataStore:
        return await JetStreamMetadata.open(connection, bucket=f"model{next(buckets)}")

    stack = AsyncExitStack()
    try:
        connection = runner.run(connect())
        check(runner, StoreModel, open_store, examples=15, steps=25)
    finally:
        runner.run(stack.aclose())


def test_a_store_in_etcd_behaves_as_a_dictionary(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def start() -> EtcdServer:
        return await stack.enter_async_context(EtcdServer.run(tmp_path))

    async def open_store(_: StoreModel) -> MetadataStore:
        store = await EtcdMetadata.connect([server.endpoint])
        for entry in (await store.list("/")).entries:
            await store.delete(entry.key)
        return store

    stack = AsyncExitStack()
    try:
        server = runner.run(start())
        check(runner, StoreModel, open_store, examples=10, steps=25)
    finally:
        runner.run(stack.aclose())
