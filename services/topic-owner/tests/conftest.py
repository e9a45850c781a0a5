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
async def house() -> AsyncIterator[OwnerHarness]:
    async with open_owner_harness() as house:
        yield house


@pytest.fixture
async def owned(house: OwnerHarness) -> BundleOwner:
    return await house.own()


@pytest.fixture
async def gateway(house: OwnerHarness, owned: BundleOwner) -> Gateway:
    return await house.gateway("g")
