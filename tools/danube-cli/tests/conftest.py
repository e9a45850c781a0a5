from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from danube_harness.services.stub_gateway import StubGateway


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class Cli:
    """Runs the command as a user does, in a process of its own."""

    def __init__(self, address: str) -> None:
        self._environment = {**os.environ, "DANUBE_SERVICE_ADDR": address}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-m", "danube_cli"),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        assert b"Traceback" not in err
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def cli(gateway: StubGateway) -> Cli:
    return Cli(gateway.address)
