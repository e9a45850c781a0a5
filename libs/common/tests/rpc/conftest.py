from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_harness.rpc.calls import Serve, serving


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start
