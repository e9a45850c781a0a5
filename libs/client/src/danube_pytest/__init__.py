"""Fixtures for pytest wherever `danubepy` is installed.

`danube_memory` is a platform in this process, a new one for each test; it needs no server. `danube_platform`,
`danube_url` and `danube_client` are a real one, which starts with the first test that asks for it and serves
the whole run, so a test takes topic names of its own. A package apart from the library, which is imported in
the fixtures: a run that asks for none of them starts as fast as without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from danube_client.client import Client
    from danube_client.testing.memory import MemoryPlatform
    from danube_client.testing.platform import LocalPlatform


@pytest.fixture
def danube_memory() -> MemoryPlatform:
    """A platform in this process, without a server."""
    from danube_client.testing.memory import MemoryPlatform  # noqa: PLC0415

    return MemoryPlatform()


@pytest.fixture(scope="session")
def danube_platform() -> Iterator[LocalPlatform]:
    """A platform for the whole run; needs `danubepy-server`."""
    from danube_client.testing.platform import LocalPlatform  # noqa: PLC0415

    with LocalPlatform() as platform:
        yield platform


@pytest.fixture(scope="session")
def danube_url(danube_platform: LocalPlatform) -> str:
    """The URL of `danube_platform`."""
    return danube_platform.url


try:
    import pytest_asyncio
except ImportError:

    @pytest.fixture
    def danube_client() -> None:
        """Fail with what is missing."""
        pytest.fail("the fixture danube_client needs pytest-asyncio: pip install pytest-asyncio")
else:

    @pytest_asyncio.fixture
    async def danube_client(  # type: ignore[misc]  # the other one is for where pytest-asyncio is missing
        danube_url: str,
    ) -> AsyncIterator[Client]:
        """A client that is connected to `danube_platform`, closed after the test."""
        from danube_client.client import connect  # noqa: PLC0415

        async with connect(danube_url) as client:
            yield client
