"""A command-line tool as a user runs it: in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ended:
    """How a tool ended: its exit status and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on its standard output."""
        return json.loads(self.out)


class ToolProcess:
    """Runs a tool whose warnings are errors, at the gateway at ``address``.

    Args:
        module: what runs, e.g. ``danube_cli``.
        address: what DANUBE_SERVICE_ADDR names.
    """

    def __init__(self, module: str, address: str) -> None:
        self._module = module
        self._environment = {**os.environ, "DANUBE_SERVICE_ADDR": address}

    async def start(self, *arguments: str) -> Process:
        """Start it; the caller ends it, or waits until it ends."""
        command = (sys.executable, "-W", "error", "-m", self._module, *arguments)
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._environment
        )

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run it to its end, which must be no traceback."""
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ended(process.returncode, out.decode(), err.decode())
