from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_client import Client, Retry, connect
from danube_harness.services.stub_gateway import StubGateway

# Short pauses; that enough attempts are made in them is what the tests wait for.
QUICK = Retry(attempts_max=8, first_s=0.01, max_s=0.1)


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    async with StubGateway() as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: StubGateway) -> AsyncIterator[Client]:
    async with connect(gateway.address, retry=QUICK, health_interval_s=0.05) as client:
        yield client
