from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.conformance.client import Admin, Client

from danube_harness.platforms.standalone import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all tests of a worker, with two gateways; a test's topics are its own."""
    with Platform.run(
        tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2", "--gateway-ports", "each")
    ) as running:
        yield running


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    """A connection to the client port."""
    connected = Client(platform.gateway_addr)
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def other_client(platform: Platform) -> AsyncIterator[Client]:
    """A connection to another gateway: whatever one tells a client holds at every other at once."""
    connected = Client(platform.gateway_addrs[1])
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def admin(platform: Platform) -> AsyncIterator[Admin]:
    """A connection to the administration port."""
    connected = Admin(platform.admin_addr)
    yield connected
    await connected.close()


@pytest.fixture
def topic() -> str:
    """The name of a topic that does not exist."""
    return f"/default/topic_{uuid4().hex[:12]}"


@pytest.fixture
def namespace() -> str:
    """The name of a namespace that does not exist."""
    return f"ns_{uuid4().hex[:12]}"
