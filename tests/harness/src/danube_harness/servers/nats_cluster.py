"""A real NATS cluster with JetStream on free ports of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import nats.js.errors

from danube_harness.servers.etcd_server import START_ATTEMPTS_MAX, free_ports
from danube_harness.servers.nats_server import HOST, NatsServer
from danube_standalone.nats_config import ClusterMember

SERVERS = 3
CLUSTER_NAME = "danube-test"
READY_TIMEOUT_S = 40.0
POLL_INTERVAL_S = 0.05


class NatsCluster:
    """Servers that a test may hurt one by one or all at once.

    Clients know only the addresses they are given (`ClusterMember.advertise` is off), so that a proxy
    before a server cannot be passed by.

    Attributes:
        members: by their place; each has `kill`, `pause`, `resume` and `restart` of its own.
    """

    def __init__(self, members: list[NatsServer]) -> None:
        self.members = members

    @classmethod
    @asynccontextmanager
    async def run(cls, directory: Path, *, servers: int = SERVERS) -> AsyncIterator[NatsCluster]:
        """Start a cluster that keeps everything under ``directory``; kill it at the end."""
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            cluster = cls._on_free_ports(directory / f"attempt-{attempt}", servers)
            try:
                await cluster.start()
                break
            except RuntimeError:
                await cluster.kill()
                # Another process may have taken a port between looking for one and listening on it.
                if attempt == START_ATTEMPTS_MAX:
                    raise
        try:
            yield cluster
        finally:
            await cluster.kill()

    @classmethod
    def _on_free_ports(cls, directory: Path, servers: int) -> NatsCluster:
        ports = free_ports(2 * servers)
        clients, peers = ports[:servers], ports[servers:]
        routes = [f"{HOST}:{port}" for port in peers]
        members = []
        for number, (client, peer) in enumerate(zip(clients, peers, strict=True), 1):
            home = directory / f"nats-{number}"
            home.mkdir(parents=True, exist_ok=True)
            member = ClusterMember(CLUSTER_NAME, peer, routes, advertise=False)
            members.append(NatsServer(home, name=home.name, port=client, cluster=member))
        return cls(members)

    @property
    def urls(self) -> list[str]:
        """What clients connect to, one for each server."""
        return [member.url for member in self.members]

    @property
    def flag(self) -> str:
        """The value of a service's ``--nats-url``."""
        return ",".join(self.urls)

    async def start(self) -> None:
        """Start every server that does not run; returns when JetStream serves the whole cluster."""
        await asyncio.gather(*(member.start() for member in self.members if not member.running))
        await self.until_served()

    async def kill(self) -> None:
        """SIGKILL for every server at once."""
        await asyncio.gather(*(member.kill() for member in self.members if member.running))

    async def until_served(self) -> None:
        """Until JetStream answers, so that streams can be made. Raises TimeoutError."""
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                try:
                    connection = await nats.connect(self.urls, allow_reconnect=False, connect_timeout=2)
                except (OSError, nats.errors.Error):
                    await asyncio.sleep(POLL_INTERVAL_S)
                    continue
                try:
                    # The answer comes from the cluster's leader: there is no other sign of one.
                    await connection.jetstream(timeout=1).account_info()
                    return
                except (nats.errors.Error, nats.js.errors.Error):
                    await asyncio.sleep(POLL_INTERVAL_S)
                finally:
                    await connection.close()
