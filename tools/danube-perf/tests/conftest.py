from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_harness.platforms.tool_process import ToolProcess
from danube_harness.services.stub_gateway import StubGateway


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def perf(gateway: StubGateway) -> ToolProcess:
    return ToolProcess("danube_perf", gateway.address)
