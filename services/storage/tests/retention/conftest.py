"""Fixtures of the retention tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from danube_harness.services.retention_harness import RetentionHarness


@pytest.fixture
async def harness() -> AsyncIterator[RetentionHarness]:
    async with AsyncExitStack() as stack:
        harness = RetentionHarness(stack)
        await harness.open()
        yield harness
