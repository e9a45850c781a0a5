"""A metadata store of each kind, fresh for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from danube_common.metadata.port import MetadataStore
from danube_harness.servers.metadata_backends import (
    BACKENDS,
    Backend,
)


@pytest_asyncio.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        backend = BACKENDS[request.param](tmp_path, stack)
        await backend.start()
        yield backend


@pytest_asyncio.fixture
async def store(backend: Backend) -> AsyncIterator[MetadataStore]:
    store = await backend.store()
    yield store
    await store.close()
