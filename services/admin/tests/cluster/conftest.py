from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from services.admin.tests.cluster.members import Clock, World

from danube_common.cluster import keys
from danube_common.metadata.mirror import Mirror
from danube_harness.memory.metadata import MemoryMetadata


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    clock = Clock()
    store = MemoryMetadata(clock)
    seen = await Mirror.open(store, keys.CLUSTER)
    yield World(store, clock, seen)
    await seen.close()
