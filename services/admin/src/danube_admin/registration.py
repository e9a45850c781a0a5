"""This instance's place among the living, taken again whenever it was lost."""

from __future__ import annotations

import asyncio
from typing import Final, Self

import structlog

from danube_common.errors import MetadataUnavailable
from danube_common.membership import INSTANCE_TTL_S, register
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.records import Instance

REGISTER_AGAIN_S: Final = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Registration:
    """Losing the lease costs an admin instance nothing but its place: it owns no bundles."""

    def __init__(self, store: MetadataStore, instance: Instance, lease: Lease, ttl_s: float) -> None:
        self._store = store
        self._instance = instance
        self._lease = lease
        self._ttl_s = ttl_s

    @classmethod
    async def open(cls, store: MetadataStore, instance: Instance, *, ttl_s: float = INSTANCE_TTL_S) -> Self:
        """Raises MetadataUnavailable."""
        return cls(store, instance, await register(store, instance, ttl_s=ttl_s), ttl_s)

    @property
    def held(self) -> bool:
        return self._lease.held

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._lease.lost.wait()
            try:
                self._lease = await register(self._store, self._instance, ttl_s=self._ttl_s)
            except MetadataUnavailable as error:
                _log.info("registration_waits", reason=str(error))
                await asyncio.sleep(REGISTER_AGAIN_S)

    async def close(self) -> None:
        """Give the place up. Idempotent."""
        await self._lease.release()
