"""Periodic verification of quarantined segments: a segment that was repaired is released."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from danube_common.errors import DanubeError
from danube_storage.reading.requests import ReadRequests
from danube_storage.reading.verification import damage_of
from danube_storage.segments.stores import Stores

RECHECK_INTERVAL_S: Final = 60.0
RECHECKS_PER_PASS_MAX: Final = 8

_log = structlog.get_logger(__name__)


class Recheck:
    """Verifies a few quarantined segments a pass, so that readers are not slowed down."""

    def __init__(self, reading: ReadRequests, stores: Stores) -> None:
        self._reading = reading
        self._stores = stores
        self._recalled = False
        self._next = 0

    async def run(self, interval_s: float = RECHECK_INTERVAL_S) -> None:
        """Make a pass every ``interval_s`` until cancelled. The first pass also learns existing marks."""
        while True:
            try:
                await self.run_pass()
            except DanubeError as error:
                _log.warning("recheck_retried", error=str(error))
            await asyncio.sleep(interval_s)

    async def run_pass(self) -> None:
        """Verify up to RECHECKS_PER_PASS_MAX segments. Raises MetadataUnavailable, StoreUnavailable."""
        quarantine = self._reading.quarantine
        if not self._recalled:
            await quarantine.recall(self._stores.configured)
            self._recalled = True
        locators = quarantine.locators
        start = self._next % len(locators) if locators else 0
        self._next = start + RECHECKS_PER_PASS_MAX
        for locator in (locators[start:] + locators[:start])[:RECHECKS_PER_PASS_MAX]:
            record = await quarantine.record(locator)
            if record is None or not quarantine.concerns(locator, record):
                quarantine.forget(locator)
            elif not await damage_of(self._stores.of(locator.backend), record):
                await quarantine.clear(locator)
                self._reading.forget(locator)
