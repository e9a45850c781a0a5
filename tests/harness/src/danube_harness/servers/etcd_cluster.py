"""A real etcd cluster on free ports of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from danube_harness.servers.etcd_server import HOST, START_ATTEMPTS_MAX, EtcdServer, free_ports

MEMBERS = 3
# etcd's own defaults: a busy machine must not look like a dead leader.
HEARTBEAT_MS = 100
ELECTION_TIMEOUT_MS = 1000


class EtcdCluster:
    """Members that a test may hurt one by one or all at once.

    Attributes:
        members: by their place; each has `kill`, `pause`, `resume` and `restart` of its own.
    """

    def __init__(self, members: list[EtcdServer]) -> None:
        self.members = members

    @classmethod
    @asynccontextmanager
    async def run(cls, directory: Path, *, members: int = MEMBERS) -> AsyncIterator[EtcdCluster]:
        """Start a cluster that keeps everything under ``directory``; kill it at the end."""
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            cluster = cls._on_free_ports(directory / f"attempt-{attempt}", members)
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
    def _on_free_ports(cls, directory: Path, members: int) -> EtcdCluster:
        ports = free_ports(2 * members)
        pairs = {f"etcd-{n + 1}": (ports[2 * n], ports[2 * n + 1]) for n in range(members)}
        peers = {name: f"http://{HOST}:{peer}" for name, (_, peer) in pairs.items()}
        servers = []
        for name, pair in pairs.items():
            (directory / name).mkdir(parents=True, exist_ok=True)
            servers.append(
                EtcdServer(
                    directory / name,
                    name=name,
                    ports=pair,
                    members=peers,
                    heartbeat_ms=HEARTBEAT_MS,
                    election_timeout_ms=ELECTION_TIMEOUT_MS,
                )
            )
        return cls(servers)

    @property
    def endpoints(self) -> list[str]:
        """What clients connect to, a URL for each member."""
        return [member.endpoint for member in self.members]

    @property
    def flag(self) -> str:
        """The value of a service's ``--metadata``."""
        return "etcd://" + ",".join(endpoint.rpartition("/")[2] for endpoint in self.endpoints)

    async def start(self) -> None:
        """Start every member that does not run; returns when all of them answer."""
        await asyncio.gather(*(member.start() for member in self.members if not member.running))

    async def kill(self) -> None:
        """SIGKILL for every member at once."""
        await asyncio.gather(*(member.kill() for member in self.members if member.running))

    def pause(self) -> None:
        """SIGSTOP for every member: the store is silent, its connections stay."""
        for member in self.members:
            member.pause()

    def resume(self) -> None:
        """The end of a `pause`."""
        for member in self.members:
            member.resume()
