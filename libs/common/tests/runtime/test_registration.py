from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_common.cluster import keys
from danube_common.metadata.mirror import Mirror
from danube_common.runtime.registration import Registration, RegistrationState, presence
from danube_common.runtime.service import Runtime
from danube_harness.memory.metadata import MemoryMetadata

PATIENCE_S = 20.0
KEY = keys.instance_key("11")
HELD, UNCONFIRMED, TAKEN = RegistrationState.HELD, RegistrationState.UNCONFIRMED, RegistrationState.TAKEN


def observed() -> tuple[Registration, list[RegistrationState]]:
    """Return a registration and the list of its states so far."""
    registration, states = Registration(), list[RegistrationState]()
    registration.on_change(lambda: states.append(registration.state))
    return registration, states


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    runtime = Runtime("admin", "11")
    yield runtime
    await runtime.cancel_tasks()


async def test_a_registration_that_was_lost_is_taken_again(runtime: Runtime) -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    registration, states = observed()
    async with presence(runtime, store, registration=registration):
        first = await store.get(KEY)
        assert first is not None
        await store.delete(KEY)
        await seen.wait_for(
            lambda m: (now := m.get(KEY)) is not None and now.revision > first.revision, PATIENCE_S
        )
        assert states in ([HELD, TAKEN, HELD], [HELD, TAKEN])
    assert await store.get(KEY) is None
    await seen.close()


async def test_a_store_that_is_away_for_longer_than_the_lease_finds_the_registration_taken_again(
    runtime: Runtime,
) -> None:
    store = MemoryMetadata()
    other = store.handle()
    seen = await Mirror.open(other, keys.REGISTER)
    registration, states = observed()
    async with presence(runtime, store, registration=registration, ttl_s=1.0):
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
        store.reachable = False
        await seen.wait_for(lambda m: m.get(KEY) is None, PATIENCE_S)
        assert states == [HELD, UNCONFIRMED]
        assert not registration.held
        assert registration.held_s == 0
        store.reachable = True
        await seen.wait_for(lambda m: m.get(KEY) is not None, PATIENCE_S)
    await seen.close()


async def test_a_late_write_of_its_own_does_not_cost_the_registration(runtime: Runtime) -> None:
    store = MemoryMetadata()
    seen = await Mirror.open(store, keys.REGISTER)
    registration, states = observed()
    async with presence(runtime, store, registration=registration, ttl_s=1.0):
        first = await store.get(KEY)
        assert first is not None
        # What a paused store carries out when it wakes: an attempt that was long given up.
        late = await store.put(KEY, first.value, ttl_s=1.0)
        await seen.wait_for(lambda m: (now := m.get(KEY)) is not None and now.revision > late + 1, PATIENCE_S)
        assert states == [HELD]
        assert registration.held
    await seen.close()


@pytest.mark.parametrize("vital", [True, False])
async def test_the_runtime_knows_whether_readiness_depends_on_the_registration(
    runtime: Runtime, vital: bool
) -> None:
    async with presence(runtime, MemoryMetadata(), vital=vital):
        assert runtime.health.is_vital("presence") is vital
        assert runtime.health.problems()["presence"] is None
