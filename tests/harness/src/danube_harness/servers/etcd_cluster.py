"""A real etcd cluster on free ports of this machine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.server import HOST, Cluster, free_ports, started

MEMBERS = 3
# etcd's own defaults: a busy machine must not look like a dead leader.
HEARTBEAT_MS = 100
ELECTION_TIMEOUT_MS = 1000


class EtcdCluster(Cluster[EtcdServer]):
    """An etcd cluster whose members a test may kill or pause."""

    @classmethod
    def run(cls, directory: Path, *, members: int = MEMBERS) -> AbstractAsyncContextManager[EtcdCluster]:
        """A started cluster that keeps everything under ``directory``, killed at the end."""
        return started(lambda attempt: cls._on_free_ports(directory / f"attempt-{attempt}", members))

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
