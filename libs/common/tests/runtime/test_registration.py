from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_common.cluster import keys
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.runtime.registration import Registration, RegistrationState, presence
from danube_common.runtime.service import Runtime

PATIENCE_S = 20.0
KEY = keys.instance_key("11")
HELD, UNCONFIRMED, TAKEN = RegistrationState.HELD, RegistrationState.UNCONFIRMED, RegistrationState.TAKEN


def observed() -> tuple[Registration, list[RegistrationState]]:
    """A place and what becomes of it."""
    place, standings = Registration(), list[RegistrationState]()
    place.on_change(lambda: standings.append(place.standing))
    return place, standings


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    runtime = Runtime("admin", "11")
    yield runtime
    await runtime.cancel_tasks()


async def test_a_place_that_was_lost_is_taken_again(runtime: Runtime) -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    place, standings = observed()
    async with presence(runtime, store, place=place):
        first = await store.get(KEY)
        assert first is not None
        await store.delete(KEY)
        await seen.wait_for(
            lambda m: (now := m.get(KEY)) is not None and now.revision > first.revision, PATIENCE_S
        )
        assert standings in ([HELD, TAKEN, HELD], [HELD, TAKEN])
    assert await store.get(KEY) is None
    await seen.close()


async def test_a_store_that_is_away_for_longer_than_the_lease_finds_the_place_taken_again(
    runtime: Runtime,
) -> None:
    store = MemoryMetadata()
    other = store.handle()
    seen = await Mirror.open(other, keys.REGISTER)
    place, standings = observed()
    async with presence(runtime, store, place=place, ttl_s=1.0):
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
        store.reachable = False
        await seen.wait_for(lambda m: m.get(KEY) is None, PATIENCE_S)
        assert standings == [HELD, UNCONFIRMED]
        assert not place.held
        assert place.held_s == 0
        store.reachable = True
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
    await seen.close()


async def test_a_late_write_of_its_own_does_not_cost_the_place(runtime: Runtime) -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    place, standings = observed()
    async with presence(runtime, store, place=place, ttl_s=1.0):
        first = await store.get(KEY)
        assert first is not None
        # What a paused store carries out when it wakes: an attempt that was long given up.
        late = await store.put(KEY, first.value, ttl_s=1.0)
        await seen.wait_for(lambda m: (now := m.get(KEY)) is not None and now.revision > late + 1, PATIENCE_S)
        assert standings == [HELD]
        assert place.held
    await seen.close()


@pytest.mark.parametrize("vital", [True, False])
async def test_the_runtime_knows_whether_readiness_depends_on_the_place(
    runtime: Runtime, vital: bool
) -> None:
    async with presence(runtime, MemoryMetadata(), vital=vital):
        assert runtime.health.is_vital("presence") is vital
        assert runtime.health.problems()["presence"] is None
