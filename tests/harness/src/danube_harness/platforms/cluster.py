"""The platform as a cluster: any number of each service on etcd and NATS clusters, all on this machine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Claim, decode_record
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.port import MetadataStore
from danube_harness.faults.tcp_proxy import TcpProxy
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.servers.etcd_cluster import EtcdCluster
from danube_harness.servers.nats_cluster import NatsCluster

KINDS = ("admin", "topic-owner", "storage", "gateway")
ONE_OF_EACH: Mapping[str, int] = dict.fromkeys(KINDS, 1)
REPLICAS_MAX = 3
SETTLED_S = 2.0
SETTLE_S_MAX = 60.0
POLL_INTERVAL_S = 0.1
BUNDLE_FLAGS = ("--bundles-file", "4", "--bundles-memory", "2")


class ClusterPlatform:
    """Service processes on etcd and NATS clusters. Only the test restarts what it killed.

    Attributes:
        etcd: the cluster of the metadata store.
        nats: the cluster of the bus and the logs; a log has a replica on each server, up to three.
        directory: gets the output of the services and the segments.
    """

    def __init__(self, directory: Path, etcd: EtcdCluster, nats: NatsCluster, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.etcd = etcd
        self.nats = nats
        self._stack = stack
        self._processes: dict[str, ServiceProcess] = {}
        self._numbers: Counter[str] = Counter()
        self._flags: Mapping[str, Sequence[str]] = {}

    @classmethod
    @asynccontextmanager
    async def run(
        cls,
        directory: Path,
        counts: Mapping[str, int] = ONE_OF_EACH,
        *,
        flags: Mapping[str, Sequence[str]] | None = None,
        etcd_members: int = 3,
        nats_servers: int = 3,
        lines: bool = False,
        sources: Sequence[Path] = (),
    ) -> AsyncIterator[Self]:
        """Start the servers, then all services at once; kill all of them at the end.

        Args:
            directory: gets the servers' data and everything's output.
            counts: how many instances of each of KINDS; none of a kind that is not named.
            flags: further command-line arguments by kind, for those added later too.
            etcd_members: size of the etcd cluster.
            nats_servers: size of the NATS cluster.
            lines: whether each service reaches its servers through proxies, so that it can be cut off.
            sources: the import folders of the services' code; none: what is installed.
        """
        async with AsyncExitStack() as stack:
            etcd = await stack.enter_async_context(EtcdCluster.run(directory / "etcd", members=etcd_members))
            nats = await stack.enter_async_context(NatsCluster.run(directory / "nats", servers=nats_servers))
            logs = directory / "services"
            logs.mkdir(parents=True, exist_ok=True)
            platform = cls(logs, etcd, nats, stack)
            platform._flags = {"admin": BUNDLE_FLAGS} | dict(flags or {})
            stack.push_async_callback(platform._kill_services)
            listed = [
                await platform.place(kind, lines=lines) for kind in KINDS for _ in range(counts.get(kind, 0))
            ]
            for process in listed:
                process.run_from(sources)
            await asyncio.gather(*(process.start() for process in listed))
            yield platform

    @property
    def names(self) -> list[str]:
        """Every instance, whether it runs or not."""
        return list(self._processes)

    def __getitem__(self, name: str) -> ServiceProcess:
        """The instance called e.g. ``topic-owner-2``; numbers begin at 1."""
        return self._processes[name]

    def of_kind(self, kind: str) -> list[ServiceProcess]:
        """Every instance of one of KINDS, running or not."""
        return [process for process in self._processes.values() if process.kind == kind]

    def instance(self, instance_id: str) -> ServiceProcess:
        """The process of an instance id."""
        return next(one for one in self._processes.values() if one.instance_id == instance_id)

    @property
    def gateway_urls(self) -> list[str]:
        """Where clients connect."""
        return [f"http://{gateway.grpc_addr}" for gateway in self.of_kind("gateway")]

    @property
    def admin_addrs(self) -> list[str]:
        """``host:port`` of each admin instance."""
        return [admin.grpc_addr for admin in self.of_kind("admin")]

    async def place(self, kind: str, *flags: str, lines: bool = False) -> ServiceProcess:
        """A further instance that is not started yet.

        Args:
            kind: of KINDS.
            flags: its own, after those of its kind.
            lines: whether it can be cut off.
        """
        self._numbers[kind] += 1
        name = f"{kind}-{self._numbers[kind]}"
        proxies: list[TcpProxy] = []
        etcd, nats = self.etcd.flag, self.nats.flag
        if lines:
            etcd_lines = [await self._line(endpoint) for endpoint in self.etcd.endpoints]
            nats_lines = [await self._line(url) for url in self.nats.urls]
            etcd = "etcd://" + ",".join(line.address for line in etcd_lines)
            nats = ",".join(f"nats://{line.address}" for line in nats_lines)
            proxies = etcd_lines + nats_lines
        given = (
            *("--metadata", etcd, "--nats-url", nats),
            *("--nats-replicas", str(min(len(self.nats.members), REPLICAS_MAX))),
            *(("--data-dir", str(self.directory / "segments")) if kind == "storage" else ()),
            *self._flags.get(kind, ()),
            *flags,
        )
        instance_id = str(secrets.randbelow((1 << 63) - 1) + 1)
        process = ServiceProcess(kind, name, instance_id, self.directory, given, proxies)
        self._processes[name] = process
        return process

    async def add(self, kind: str, *flags: str, lines: bool = False) -> ServiceProcess:
        """A further instance, ready."""
        process = await self.place(kind, *flags, lines=lines)
        await process.start()
        return process

    async def until_settled(self) -> dict[str, int]:
        """Wait until every bundle has been owned for SETTLED_S by the live owner it is assigned to.

        Returns:
            The epoch of each bundle.

        Raises:
            TimeoutError: not within SETTLE_S_MAX.
        """
        store = await EtcdMetadata.connect(self.etcd.endpoints)
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                seen: dict[str, int] = {}
                since = time.monotonic()
                while not seen or time.monotonic() < since + SETTLED_S:
                    epochs = await self._epochs(store)
                    if epochs != seen:
                        seen, since = epochs, time.monotonic()
                    await asyncio.sleep(POLL_INTERVAL_S)
                return seen
        finally:
            await store.close()

    async def _epochs(self, store: MetadataStore) -> dict[str, int]:
        """The epoch of each bundle; empty while a bundle is not owned by the live owner it is assigned to."""
        listing = (await store.list(keys.CLUSTER)).entries
        claims = {e.key.removeprefix(keys.OWNERS): e for e in listing if e.key.startswith(keys.OWNERS)}
        assigned = {
            entry.key.removeprefix(keys.ASSIGNMENTS): decode_record(Assignment, entry.value).instance_id
            for entry in listing
            if entry.key.startswith(keys.ASSIGNMENTS)
        }
        live = {entry.key.removeprefix(keys.REGISTER) for entry in listing}
        owners = {bundle: decode_record(Claim, entry.value).instance_id for bundle, entry in claims.items()}
        if owners != assigned or not set(owners.values()) <= live:
            return {}
        return {bundle: entry.revision for bundle, entry in claims.items()}

    async def start_services(self) -> None:
        """Start every instance that does not run; returns when all are ready."""
        await asyncio.gather(*(one.start() for one in self._processes.values() if not one.running))

    async def kill_all(self) -> None:
        """SIGKILL for every service and every server, as a power cut would end them."""
        await asyncio.gather(self._kill_services(), self.etcd.kill(), self.nats.kill())

    async def start_all(self) -> None:
        """Start all that does not run, on the same data and ports; returns when all is ready."""
        await asyncio.gather(self.etcd.start(), self.nats.start())
        await self.start_services()

    async def _kill_services(self) -> None:
        await asyncio.gather(*(one.kill() for one in self._processes.values() if one.running))

    async def _line(self, url: str) -> TcpProxy:
        upstream = url.rpartition("/")[2]
        return await self._stack.enter_async_context(TcpProxy.run(lambda: upstream))
