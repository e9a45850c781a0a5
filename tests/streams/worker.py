"""A Faust worker as a process, for tests that kill it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from danube_harness.child_process import ChildProcess
from danube_harness.servers.server import HOST, free_ports

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "libs" / "faust" / "examples"


class FaustWorker(ChildProcess):
    """``faust -A <app> worker`` with web views on a port of its own; ready when these answer.

    Args:
        name: unique among the workers of a directory.
        directory: gets its data and its output.
        app: a module of the examples, or of the tests.
        addresses: ``host:port`` of gateways.
    """

    start_timeout_s = 120.0

    def __init__(self, name: str, directory: Path, app: str, addresses: Sequence[str]) -> None:
        broker = ";".join(f"danube://{address}" for address in addresses)
        (self._port,) = free_ports(1)
        environment = {
            **os.environ,
            "DANUBE_BROKER": broker,
            "NODE_CANONICAL_URL": self.url,
            "PYTHONPATH": f"{EXAMPLES}:{ROOT}",
            "FAUST_WORKER": name,
        }
        super().__init__(name, directory, environment=environment)
        self._app = app

    @property
    def url(self) -> str:
        """Where its web views are."""
        return f"http://{HOST}:{self._port}"

    async def get(self, path: str) -> Any:
        """Return the JSON of one of its web views; None while it does not answer."""
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url + path) as answer,
            ):
                return await answer.json() if answer.ok else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _command(self) -> Sequence[str | Path]:
        return [
            *(sys.executable, "-m", "faust", "-A", self._app, "--datadir", self.directory / self.name),
            *("worker", "-l", "info", "--web-host", HOST, "--web-port", str(self._port)),
        ]

    async def _problem(self) -> str | None:
        try:
            _, writer = await asyncio.open_connection(HOST, self._port)
        except OSError as error:
            return str(error)
        writer.close()
        return None
