"""Each kind of metadata store with its server, for the tests that all of them must pass."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import grpc.aio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.jetstream import MARKER_TTL_S, JetStreamMetadata
from danube_common.metadata.port import Change, MetadataStore
from danube_common.nats.connection import Connection
from danube_harness.memory.metadata import MemoryMetadata
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
    async def start(self) -> None:
        """Start the server."""

    @abstractmethod
    async def store(self) -> MetadataStore:
        """Another handle, as another process would have it."""

    @abstractmethod
    async def kill(self) -> None:
        """kill -9 of the server."""

    @abstractmethod
    async def restart(self) -> None:
        """Start a killed server again."""

    @abstractmethod
    async def forget(self, revision: int) -> None:
        """Make the store forget the changes up to ``revision``, as its housekeeping would in time."""

    @abstractmethod
    def pause(self) -> None:
        """The server stops answering without closing a connection."""

    @abstractmethod
    def resume(self) -> None:
        """Let a paused server go on."""


class Memory(Backend):
    """The store in memory; it is paused and killed by making its handles unreachable."""

    async def start(self) -> None:
        """Start the server."""
        self.root = MemoryMetadata()
        self.handles: list[MemoryMetadata] = []

    async def store(self) -> MetadataStore:
        """Return another handle."""
        self.handles.append(self.root.handle())
        return self.handles[-1]

    async def kill(self) -> None:
        """Kill the server."""
        self.pause()

    async def restart(self) -> None:
        """Start the server again."""
        self.resume()

    async def forget(self, revision: int) -> None:
        """Forget the changes up to ``revision``."""
        self.root.state.compact(revision)

    def pause(self) -> None:
        """Stop answering."""
        for handle in self.handles:
            handle.reachable = False

    def resume(self) -> None:
        """Answer again."""
        for handle in self.handles:
            handle.reachable = True


class JetStream(Backend):
    """A JetStream bucket of a NATS server."""

    marker_ttl_s = MARKER_TTL_S

    async def start(self) -> None:
        """Start the server."""
        self.server = await self.stack.enter_async_context(NatsServer.run(self.directory))

    async def store(self) -> MetadataStore:
        """Return another handle."""
        connection = await Connection.open(
            self.server.url, name="contract", reconnect_wait_s=0.05, connect_timeout_s=5.0
        )
        self.stack.push_async_callback(connection.shut)
        return await JetStreamMetadata.open(connection, marker_ttl_s=self.marker_ttl_s)

    async def kill(self) -> None:
        """Kill the server."""
        await self.server.kill()

    async def restart(self) -> None:
        """Start the server again."""
        await self.server.restart()

    async def forget(self, revision: int) -> None:  # noqa: ARG002 - it goes by age
        """Forget the changes up to ``revision``."""
        # What this bucket forgets is deletions, by their age.
        self.marker_ttl_s = 1
        await self.store()
        await asyncio.sleep(self.marker_ttl_s)

    def pause(self) -> None:
        """Stop answering."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        os.kill(self.server.pid, signal.SIGCONT)


class Etcd(Backend):
    """An etcd server."""

    async def start(self) -> None:
        """Start the server."""
        self.server = await self.stack.enter_async_context(EtcdServer.run(self.directory))

    async def store(self) -> MetadataStore:
        """Return another handle."""
        store = await EtcdMetadata.connect([self.server.endpoint])
        self.stack.push_async_callback(store.close)
        return store

    async def kill(self) -> None:
        """Kill the server."""
        await self.server.kill()

    async def restart(self) -> None:
        """Start the server again."""
        await self.server.restart()

    async def forget(self, revision: int) -> None:
        """Forget the changes up to ``revision``."""
        async with grpc.aio.insecure_channel(self.server.endpoint.removeprefix("http://")) as channel:
            await rpc.KVStub(channel).Compact(rpc.CompactionRequest(revision=revision, physical=True))

    def pause(self) -> None:
        """Stop answering."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        os.kill(self.server.pid, signal.SIGCONT)


BACKENDS: dict[str, type[Backend]] = {"memory": Memory, "jetstream": JetStream, "etcd": Etcd}


def watching(store: MetadataStore, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
    """Return a watch as the generator that it is, to be closed by the test."""
    changes = store.watch(prefix, after_revision=after_revision)
    assert isinstance(changes, AsyncGenerator)
    return changes


async def changes_until(
    store: MetadataStore, prefix: str, after_revision: int, enough: Callable[[list[Change]], bool]
) -> list[Change]:
    """Return the changes that a watch shows until ``enough(changes)`` holds."""
    seen: list[Change] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(watching(store, prefix, after_revision)) as changes:
        while not enough(seen):
            seen.append(await anext(changes))
    return seen


def folded(changes: list[Change]) -> dict[str, bytes]:
    """Return the entries that are left after the changes."""
    state: dict[str, bytes] = {}
    for change in changes:
        if change.value is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.value
    return state
