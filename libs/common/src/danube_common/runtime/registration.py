"""Registration of a process in the cluster for as long as the process lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

from danube_common.cluster.membership import INSTANCE_TTL_S, register
from danube_common.cluster.records import Instance
from danube_common.errors import MetadataUnavailable
from danube_common.metadata.lease import ATTEMPTS_PER_TTL, Lease
from danube_common.metadata.port import MetadataStore
from danube_common.runtime.service import Runtime

RETRY_S: Final = 0.5


class RegistrationState(StrEnum):
    """What a process knows of its registration."""

    ABSENT = "not registered yet"
    HELD = "registered"
    UNCONFIRMED = "the metadata store does not answer, the registration has run out"
    TAKEN = "another process registered under this id, or somebody deleted the registration"


class Registration:
    """The registration of this process as the process itself knows it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lease: Lease | None = None
        self._state = RegistrationState.ABSENT
        self._held_since = 0.0
        self._listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> RegistrationState:
        """The state as of the last news; `held` is as of this moment."""
        return self._state

    @property
    def held(self) -> bool:
        """Whether the registration holds at this moment; right also after the process was paused."""
        return self._lease is not None and self._lease.held

    @property
    def held_s(self) -> float:
        """The seconds since which the registration has held without a break; 0 if it does not hold."""
        return self._clock() - self._held_since if self.held else 0.0

    def on_change(self, listener: Callable[[], None]) -> None:
        """Register a function that is called after each change of `state`; must not block."""
        self._listeners.append(listener)

    def take(self, lease: Lease) -> None:
        """Note that the process is registered under ``lease``."""
        self._lease, self._held_since = lease, self._clock()
        self._change(RegistrationState.HELD)

    def lose(self) -> None:
        """Note that the lease is lost; the state tells why."""
        taken = self._lease is not None and self._lease.taken
        self._change(RegistrationState.TAKEN if taken else RegistrationState.UNCONFIRMED)

    def _change(self, state: RegistrationState) -> None:
        self._state = state
        for listener in self._listeners:
            listener()


@asynccontextmanager
async def presence(
    runtime: Runtime,
    store: MetadataStore,
    *,
    address: str = "",
    backends: tuple[str, ...] = (),
    registration: Registration | None = None,
    vital: bool = True,
    ttl_s: float = INSTANCE_TTL_S,
) -> AsyncIterator[None]:
    """Keep the instance registered, also after the metadata store was away for longer than the lease.

    The registration is given up on leaving. Raises MetadataUnavailable when the first registration fails.

    Args:
        runtime: the process to register; its service name is the kind of instance.
        store: holds the registration.
        address: an endpoint for others besides health and metrics, e.g. a gateway's URL.
        backends: see `Instance`.
        registration: told of everything that becomes of the registration.
        vital: whether the service is unready while it is not registered.
        ttl_s: lifetime of the lease in seconds.
    """
    registration = registration or Registration()
    started_ms = int(time.time() * 1000)
    instance = Instance(runtime.instance_id, runtime.service, runtime.http_url, address, started_ms, backends)
    lease = await register(store, instance, ttl_s=ttl_s)
    registration.take(lease)

    async def stay() -> None:
        nonlocal lease
        while True:
            await lease.lost.wait()
            registration.lose()
            lease = await _register_again(runtime, store, instance, ttl_s)
            registration.take(lease)

    staying = runtime.spawn(stay(), "presence")
    runtime.add_check(
        "presence", lambda: None if registration.held else "not registered in the cluster", vital=vital
    )
    try:
        yield
    finally:
        staying.cancel()
        await lease.release()


async def _register_again(runtime: Runtime, store: MetadataStore, instance: Instance, ttl_s: float) -> Lease:
    tell = runtime.log.warning
    while True:
        try:
            # Shorter than the store's own timeout, so that a store that returns is used at once.
            async with asyncio.timeout(ttl_s / ATTEMPTS_PER_TTL):
                lease = await register(store, instance, ttl_s=ttl_s)
        except (MetadataUnavailable, TimeoutError) as error:
            tell("not_registered", reason=str(error) or type(error).__name__)
            tell = runtime.log.debug  # once is enough for an outage of minutes
            await asyncio.sleep(RETRY_S)
        else:
            runtime.log.info("registered_again")
            return lease
