"""A real NATS cluster with JetStream on free ports of this machine."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import nats
import nats.errors
import nats.js.errors

from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.server import HOST, Cluster, free_ports, started
from danube_standalone.nats_config import ClusterMember

SERVERS = 3
CLUSTER_NAME = "danube-test"
READY_TIMEOUT_S = 40.0
POLL_INTERVAL_S = 0.05


class NatsCluster(Cluster[NatsServer]):
    """A NATS cluster whose servers a test may kill or pause.

    Clients know only the addresses they are given (`ClusterMember.advertise` is off), so they cannot go
    around a proxy before a server.
    """

    @classmethod
    def run(cls, directory: Path, *, servers: int = SERVERS) -> AbstractAsyncContextManager[NatsCluster]:
        """A started cluster that keeps everything under ``directory``, killed at the end."""
        return started(lambda attempt: cls._on_free_ports(directory / f"attempt-{attempt}", servers))

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
        await super().start()
        await self.until_served()

    async def until_served(self) -> None:
        """Wait until JetStream answers, so that streams can be created. Raises TimeoutError."""
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
