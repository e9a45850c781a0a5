"""Runs the platform: starts NATS and the services, waits for a signal, stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from danube_standalone.data_dir import DataDir, DiskWatch, Unusable, write_json
from danube_standalone.program import Program, tail
from danube_standalone.programs import SERVICE_DEADLINE_S, Layout, nats, services
from danube_standalone.supervisor import StartFailed, Supervisor

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
READ_BYTES: Final = 4096
EXIT_SIGNAL_BASE: Final = 128
TAIL_LINES: Final = 8
DISK_INTERVAL_S: Final = 10.0
STOP_S_MAX: Final = SERVICE_DEADLINE_S + 0.5


class Standalone:
    """One run of the platform.

    Args:
        directory: the locked data directory.
        layout: what to run.
        ready_file: receives the state as JSON when all is ready.
        ready_s_max: the seconds that a program may take to become ready.
    """

    def __init__(
        self, directory: DataDir, layout: Layout, ready_file: Path | None, ready_s_max: float
    ) -> None:
        self._directory = directory
        self._layout = layout
        self._ready_file = ready_file
        self._ready_s_max = ready_s_max
        self._nats = self._supervisor([[nats(directory, layout.nats_port)]])
        self._services: Supervisor | None = None

    async def run(self, held_fd: int | None = None) -> int:
        """Start everything, wait for a signal, stop everything; return the exit status.

        The end of ``held_fd``, a pipe, stops it like a signal.
        """
        began = time.monotonic()
        stopping = asyncio.Event()
        self._obey_signals(stopping)
        if held_fd is not None:
            _obey_end(held_fd, stopping)
        try:
            work = asyncio.create_task(self._work(began))
            asked = asyncio.create_task(stopping.wait())
            await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            work.cancel()
            (outcome,) = await asyncio.gather(work, return_exceptions=True)
            if isinstance(outcome, StartFailed):
                tell(str(outcome))
                for line in tail(outcome.program.log_file, TAIL_LINES):
                    tell(f"  {line}")
                return EXIT_FAILED
            if isinstance(outcome, Unusable):
                tell(str(outcome))
                return EXIT_FAILED
            if isinstance(outcome, Exception):
                raise outcome
            return EXIT_OK
        finally:
            await self._stop()

    async def _work(self, began: float) -> None:
        await self._nats.start()
        listed = services(self._directory, self._layout, self._nats.addresses["nats"])
        gateways = [program for program in listed if program.name.startswith("gateway")]
        others = [program for program in listed if program not in gateways]
        # Gateways stop first, so that the messages they still carry reach their owners.
        self._services = self._supervisor([gateways, others])
        await self._services.start()
        self._save()
        if self._ready_file is not None:
            write_json(self._ready_file, self._state())
        _say(sys.stdout, self._ready_block(time.monotonic() - began))
        await asyncio.gather(self._nats.failed(), self._services.failed(), self._watch_disk())

    async def _watch_disk(self) -> None:
        watch = DiskWatch()
        nats_log = self._directory.logs / "nats.log"
        while True:
            # A directory that went away is told by what needs it.
            with contextlib.suppress(OSError):
                line, restart_nats = watch.judge(self._directory.free_bytes, "".join(tail(nats_log, 1)))
                if line:
                    tell(line)
                if restart_nats:
                    self._nats.restart("nats")
            await asyncio.sleep(DISK_INTERVAL_S)

    async def _stop(self) -> None:
        if self._services is not None:
            await self._services.stop()
        await self._nats.stop()
        for file in (self._directory.state_file, self._ready_file):
            if file is not None:
                file.unlink(missing_ok=True)

    def _supervisor(self, waves: Sequence[Sequence[Program]]) -> Supervisor:
        return Supervisor(
            waves,
            lock_fd=self._directory.lock_fd,
            tell=tell,
            changed=self._save,
            ready_s_max=self._ready_s_max,
            stop_s_max=STOP_S_MAX,
        )

    def _state(self) -> dict[str, Any]:
        addresses, pids = self._nats.addresses, self._nats.pids
        if self._services is not None:
            addresses |= self._services.addresses
            pids |= self._services.pids
        return {
            "pid": os.getpid(),
            "nats_url": addresses.get("nats", {}).get("url", ""),
            "gateway_addr": addresses.get("gateway", {}).get("grpc_addr", ""),
            "admin_addr": addresses.get("admin", {}).get("grpc_addr", ""),
            "pids": pids,
            "addresses": {name: dict(told) for name, told in addresses.items()},
        }

    def _save(self) -> None:
        # The file is for people: the platform goes on without it, also on a full disk.
        try:
            write_json(self._directory.state_file, self._state())
        except OSError as error:
            tell(f"{self._directory.state_file} cannot be written: {error.strerror}")

    def _ready_block(self, took_s: float) -> str:
        state = self._state()
        if self._layout.restore:
            return (
                "Ready to restore a backup: danube-admin backup restore DIR --endpoint "
                f"http://{state['admin_addr']}\nCtrl-C stops it; then start without --restore."
            )
        addresses: dict[str, dict[str, str]] = state["addresses"]
        by_port = sorted(addresses.items(), key=lambda one: one[1].get("http_url", ""))
        serving = {name: told for name, told in by_port if "http_url" in told}
        lines = [f"Danube is ready ({took_s:.1f} s). Ctrl-C stops it.", ""]
        lines += [f"  {name:<15}{told['grpc_addr']}" for name, told in serving.items() if "grpc_addr" in told]
        lines += [f"  {'nats':<15}{state['nats_url']}", f"  {'data, logs':<15}{self._directory.path}", ""]
        lines += ["  health: /livez /readyz, metrics: /metrics, at"]
        lines += [f"  {name:<15}{told['http_url']}" for name, told in serving.items()]
        return "\n".join(lines)

    def _obey_signals(self, stopping: asyncio.Event) -> None:
        def on_signal(number: signal.Signals) -> None:
            if stopping.is_set():
                for supervisor in (self._services, self._nats):
                    if supervisor is not None:
                        supervisor.kill()
                os._exit(EXIT_SIGNAL_BASE + number)
            stopping.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


def _obey_end(fd: int, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        if not os.read(fd, READ_BYTES):
            loop.remove_reader(fd)
            stopping.set()

    loop.add_reader(fd, on_readable)


def tell(line: str) -> None:
    """Print one line to standard error."""
    _say(sys.stderr, f"danube-standalone: {line}")


def _say(stream: TextIO, text: str) -> None:
    # The reader of the output may have gone (`| head`); the platform goes on.
    with contextlib.suppress(OSError):
        stream.write(f"{text}\n")
        stream.flush()
