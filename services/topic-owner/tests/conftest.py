from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_testing.bundle_house import (
    Gateway,
    House,
    open_house,
)
from danube_topic_owner.ownership import Owned


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest.fixture
async def owned(house: House) -> Owned:
    return await house.own()


@pytest.fixture
async def gateway(house: House, owned: Owned) -> Gateway:
    return await house.gateway("g")
