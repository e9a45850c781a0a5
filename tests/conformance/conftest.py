from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final, cast
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.conformance.client import Admin, Client
from tests.conformance.streaming_client import StreamingClient

from danube_harness.platforms.standalone import Platform

WIRES: Final = {"calls": Client, "streaming": StreamingClient}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all tests of a worker, with two gateways; a test's topics are its own."""
    with Platform.run(
        tmp_path_factory.mktemp("platform"), arguments=("--gateways", "2", "--gateway-ports", "each")
    ) as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked with `wires` on each of these: ``calls`` of v0.2, native ``streaming``.

    ``acceptance`` names one on which `make acceptance` alone runs it.
    """
    marker = metafunc.definition.get_closest_marker("wires")
    if marker is not None and "wire" in metafunc.fixturenames:
        long = marker.kwargs.get("acceptance")
        wires = [
            pytest.param(WIRES[name], marks=[pytest.mark.acceptance] if name == long else [], id=name)
            for name in marker.args
        ]
        metafunc.parametrize("wire", wires, indirect=True)


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> type[Client]:
    """What the clients of a test speak."""
    return cast("type[Client]", getattr(request, "param", Client))


@pytest_asyncio.fixture
async def client(platform: Platform, wire: type[Client]) -> AsyncIterator[Client]:
    """A connection to the client port."""
    connected = wire(platform.gateway_addr)
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def other_client(platform: Platform, wire: type[Client]) -> AsyncIterator[Client]:
    """A connection to another gateway: whatever one tells a client holds at every other at once."""
    connected = wire(platform.gateway_addrs[1])
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
