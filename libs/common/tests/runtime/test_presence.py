from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_common import keys
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.runtime.presence import presence
from danube_common.runtime.service import Runtime

PATIENCE_S = 20.0
KEY = keys.instance_key("11")


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    runtime = Runtime("admin", "11")
    yield runtime
    await runtime.cancel_tasks()


async def test_a_place_that_was_lost_is_taken_again(runtime: Runtime) -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    held: list[bool] = []
    async with presence(runtime, store, on_held=held.append):
        first = await store.get(KEY)
        assert first is not None
        await store.delete(KEY)
        await seen.wait_for(
            lambda m: (now := m.get(KEY)) is not None and now.revision > first.revision, PATIENCE_S
        )
        assert held in ([True, False, True], [True, False])
    assert await store.get(KEY) is None
    await seen.close()


async def test_a_store_that_is_away_for_longer_than_the_lease_finds_the_place_taken_again(
    runtime: Runtime,
) -> None:
    store = MemoryMetadata()
    other = store.handle()
    seen = await Mirror.open(other, keys.REGISTER)
    held: list[bool] = []
    async with presence(runtime, store, on_held=held.append, ttl_s=1.0):
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
        store.reachable = False
        await seen.wait_for(lambda m: m.get(KEY) is None, PATIENCE_S)
        assert held == [True, False]
        store.reachable = True
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
    await seen.close()
