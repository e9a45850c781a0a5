from __future__ import annotations

import asyncio
import contextlib

from danube_admin.registration import Registration
from danube_common import keys
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.records import Instance

PATIENCE_S = 20.0
ME = Instance("11", "admin", "http://127.0.0.1:1")
KEY = keys.instance_key("11")


async def test_a_place_that_was_lost_is_taken_again() -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    registration = await Registration.open(store, ME, ttl_s=1)
    running = asyncio.create_task(registration.run())
    first = await store.get(KEY)
    assert first is not None
    await store.delete(KEY)
    await seen.wait_for(
        lambda m: (now := m.get(KEY)) is not None and now.revision > first.revision, PATIENCE_S
    )
    assert registration.held
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await registration.close()
    assert await store.get(KEY) is None
    await seen.close()


async def test_a_store_that_is_away_for_longer_than_the_lease_finds_the_place_taken_again() -> None:
    store = MemoryMetadata()
    other = store.handle()
    seen = await Mirror.open(other, keys.REGISTER)
    registration = await Registration.open(store, ME, ttl_s=1)
    running = asyncio.create_task(registration.run())
    await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
    store.reachable = False
    await seen.wait_for(lambda m: m.get(KEY) is None, PATIENCE_S)
    assert not registration.held
    store.reachable = True
    await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await registration.close()
    await seen.close()
