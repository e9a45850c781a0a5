from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_harness.services.owner_harness import (
    Gateway,
    OwnerHarness,
    open_owner_harness,
)
from danube_topic_owner.bundle_owner import BundleOwner


@pytest.fixture
async def harness() -> AsyncIterator[OwnerHarness]:
    async with open_owner_harness() as harness:
        yield harness


@pytest.fixture
async def owner(harness: OwnerHarness) -> BundleOwner:
    return await harness.own()


@pytest.fixture
async def gateway(harness: OwnerHarness, owner: BundleOwner) -> Gateway:
    return await harness.gateway("g")
