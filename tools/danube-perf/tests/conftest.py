from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from danube_harness.services.stub_gateway import StubGateway


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Perf:
    """Runs the command as a user does, in a process of its own."""

    def __init__(self, address: str) -> None:
        self._environment = {**os.environ, "DANUBE_SERVICE_ADDR": address}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-m", "danube_perf"),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )

    async def __call__(self, *arguments: str) -> Ended:
        return await ended(await self.start(*arguments))


async def ended(process: asyncio.subprocess.Process) -> Ended:
    out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def perf(gateway: StubGateway) -> Perf:
    return Perf(gateway.address)
