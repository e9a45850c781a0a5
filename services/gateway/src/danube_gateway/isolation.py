"""Ends the streams of a gateway that is cut off from the platform, so that its clients move to another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from danube_common.errors import DanubeError, Unavailable
from danube_common.wire.owner.sessions import GATEWAY_SILENCE_S

CUT_OFF_S: Final = GATEWAY_SILENCE_S
"""After this long without a Sync the owners have ended this gateway's streams."""
POLL_INTERVAL_S: Final = 0.5

_log = structlog.get_logger(__name__)


class Isolation:
    """Assumes that the gateway is cut off when it reaches neither NATS nor the metadata store.

    Args:
        reachable: returns whether NATS or the metadata store is reachable now.
        end_streams: ends every stream with an error.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reachable: Callable[[], bool],
        end_streams: Callable[[DanubeError], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reachable = reachable
        self._end_streams = end_streams
        self._clock = clock
        self._reached_at = clock()
        self._logged = False

    async def run(self) -> None:
        """Check every POLL_INTERVAL_S until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(POLL_INTERVAL_S)  # a cut connection raises no event

    def check(self) -> None:
        """End all streams if the gateway is cut off; streams opened meanwhile end at the next check."""
        now = self._clock()
        if self._reachable():
            self._reached_at, self._logged = now, False
        elif now - self._reached_at > CUT_OFF_S:
            if not self._logged:
                self._logged = True
                _log.warning("cut_off", since_s=round(now - self._reached_at, 1))
            self._end_streams(Unavailable("this gateway is cut off from the rest of the platform"))
