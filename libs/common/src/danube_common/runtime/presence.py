"""Being seen in the cluster for as long as the process lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from danube_common.errors import MetadataUnavailable
from danube_common.membership import INSTANCE_TTL_S, register
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.records import Instance
from danube_common.runtime.service import Runtime

RETRY_S: Final = 1.0


@asynccontextmanager
async def presence(
    runtime: Runtime,
    store: MetadataStore,
    *,
    address: str = "",
    on_held: Callable[[bool], None] = lambda _held: None,
    ttl_s: float = INSTANCE_TTL_S,
) -> AsyncIterator[None]:
    """Keep the instance registered: also again, after the metadata store was away for longer than the lease.

    The place is given up on leaving. Raises MetadataUnavailable when the first registration fails.

    Args:
        runtime: who is present; its service name is the kind.
        store: where.
        address: what others may want to reach besides health and metrics, e.g. a gateway's URL.
        ttl_s: the lease.
        on_held: called with True when the place is held, with False as soon as it counts as lost.
    """
    started_ms = int(time.time() * 1000)
    instance = Instance(runtime.instance_id, runtime.service, runtime.http_url, address, started_ms)
    lease = await register(store, instance, ttl_s=ttl_s)
    on_held(True)  # noqa: FBT003 - a callback that is a predicate

    async def stay() -> None:
        nonlocal lease
        while True:
            await lease.lost.wait()
            on_held(False)  # noqa: FBT003
            lease = await _register_again(runtime, store, instance, ttl_s)
            on_held(True)  # noqa: FBT003

    staying = runtime.spawn(stay(), "presence")
    runtime.add_check("presence", lambda: None if lease.held else "not registered in the cluster")
    try:
        yield
    finally:
        staying.cancel()
        await lease.release()


async def _register_again(runtime: Runtime, store: MetadataStore, instance: Instance, ttl_s: float) -> Lease:
    while True:
        try:
            lease = await register(store, instance, ttl_s=ttl_s)
        except MetadataUnavailable as error:
            runtime.log.warning("not_registered", reason=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            runtime.log.info("registered_again")
            return lease
