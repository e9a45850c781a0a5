"""One service of the platform as a process that a test starts, hurts and starts again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from danube_harness.faults.tcp_proxy import TcpProxy
from danube_harness.process_death import die_with_parent
from danube_standalone.programs import FREE, SERVICE_MODULES, keep_port, readiness

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.05
OUTPUT_BYTES_SHOWN = 8_000
LISTENS = {"gateway": "--grpc-addr", "admin": "--grpc-addr"}
"""The flag of the port that others connect to, by kind."""


class ServiceProcess:
    """An instance with one identity and, once it ran, one address, whatever happens to its process.

    Args:
        kind: gateway, topic-owner, storage or admin.
        name: unique, e.g. ``gateway-2``.
        instance_id: its identity.
        directory: gets its output and its ready file.
        flags: its command line beyond identity and addresses.
        lines: the proxies it reaches its servers through, if it can be cut off.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        instance_id: str,
        directory: Path,
        flags: Sequence[str],
        lines: Sequence[TcpProxy] = (),
    ) -> None:
        self.kind = kind
        self.name = name
        self.instance_id = instance_id
        self.log_file = directory / f"{name}.log"
        self._ready_file = directory / f"{name}.json"
        self._flags = tuple(flags)
        self._lines = tuple(lines)
        self._addresses: Mapping[str, str] = {}
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def grpc_addr(self) -> str:
        """``host:port`` of its gRPC server."""
        return self._addresses["grpc_addr"]

    @property
    def http_url(self) -> str:
        """Where its health and metrics are."""
        return self._addresses["http_url"]

    @property
    def output(self) -> str:
        """The last that it wrote."""
        return self.log_file.read_text(errors="replace")[-OUTPUT_BYTES_SHOWN:]

    async def start(self) -> None:
        """Start, or start again where it listened before; returns when it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; the text shows its output.
        """
        await self.launch()
        await self.until_ready()

    async def launch(self) -> None:
        """Start without waiting for anything."""
        assert not self.running, f"{self.name} is already running"
        self._ready_file.unlink(missing_ok=True)
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", SERVICE_MODULES[self.kind], "--instance-id", self.instance_id),
                *("--ready-file", str(self._ready_file), *self._listen_flags(), *self._flags),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )

    async def until_ready(self) -> None:
        """Until /readyz is content. Raises RuntimeError as `start` does."""
        problem: str | None = "it announced nothing"
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                # The file and the health of another process have no event of their own.
                while problem is not None:
                    if not self.running:
                        raise RuntimeError(f"{self.name} ended:\n{self.output}")
                    if self._ready_file.exists():
                        told = json.loads(self._ready_file.read_bytes())
                        self._addresses = {key: str(value) for key, value in told.items()}
                        problem = await readiness(self.http_url)
                    if problem is not None:
                        await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            raise RuntimeError(
                f"{self.name} was not ready within {READY_TIMEOUT_S} s ({problem}):\n{self.output}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        os.kill(self.pid, signal.SIGKILL)
        await self._gone()

    async def stop(self) -> int:
        """SIGTERM, as an orchestrator stops it. Returns its exit status.

        Raises:
            RuntimeError: it did not end in time and was killed.
        """
        process = self._process
        assert process is not None, f"{self.name} is not running"
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                status = await process.wait()
        except TimeoutError:
            await self.kill()
            raise RuntimeError(f"{self.name} did not stop in time:\n{self.output}") from None
        self._process = None
        return status

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The end of a `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def cut_off(self) -> None:
        """It reaches no server any more, and none reaches it; what is under way arrives late."""
        assert self._lines, f"{self.name} was started without lines that can be cut"
        for line in self._lines:
            line.part()

    def heal(self) -> None:
        """The end of a `cut_off`."""
        for line in self._lines:
            line.heal()

    async def _gone(self) -> None:
        assert self._process is not None
        await self._process.wait()
        self._process = None

    def _listen_flags(self) -> list[str]:
        """Free ports the first time, then the same ones, so that clients find it again."""
        had = self._addresses
        flags = ["--http-addr", keep_port(FREE, had["http_url"]) if had else FREE]
        if self.kind in LISTENS:
            flags += [LISTENS[self.kind], keep_port(FREE, had["grpc_addr"]) if had else FREE]
        return flags
