from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_client import Client, Retry, connect
from danube_harness.services.stub_streaming import StubStreaming

QUICK = Retry(attempts_max=8, first_s=0.01, max_s=0.1)


@pytest.fixture
async def stub() -> AsyncIterator[StubStreaming]:
    async with StubStreaming() as stub:
        yield stub


@pytest.fixture
async def streaming(stub: StubStreaming) -> AsyncIterator[Client]:
    async with connect(stub.address, retry=QUICK, streaming=True) as client:
        yield client
