"""Asks every process for its metrics and its health, and keeps what they tell in an `Activity`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp
import orjson
import structlog

from danube_admin_service.cluster.process_http import body_of, open_session
from danube_admin_service.console.live.activity import SAMPLE_S, Activity, Reading
from danube_admin_service.console.live.scrape import parse
from danube_common.cluster.records import Instance

ANSWER_S_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
ASKED_AT_ONCE_MAX: Final = 8

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Collector:
    """Samples the processes that ``instances`` names, every SAMPLE_S."""

    def __init__(self, instances: Callable[[], Iterable[Instance]], activity: Activity) -> None:
        self._instances = instances
        self._activity = activity
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def run(self) -> None:
        """Sample until cancelled."""
        async with open_session(ANSWER_S_MAX) as session:
            while True:
                await self.sample(session)
                await asyncio.sleep(SAMPLE_S)

    async def sample(self, session: aiohttp.ClientSession) -> None:
        """Take one sample."""
        instances = [one for one in self._instances() if one.http_url]
        readings = await asyncio.gather(*(self._read(session, one) for one in instances))
        by_id = {one.instance_id: reading for one, reading in zip(instances, readings, strict=True)}
        self._activity.take(time.monotonic(), time.time_ns() // 1_000_000, by_id)

    async def _read(self, session: aiohttp.ClientSession, instance: Instance) -> Reading:
        try:
            async with self._asking:
                ready = await body_of(session, f"{instance.http_url}/readyz", ANSWER_BYTES_MAX)
                text = await body_of(session, f"{instance.http_url}/metrics", ANSWER_BYTES_MAX)
            scrape = await asyncio.to_thread(parse, text.decode())
            return Reading(scrape, _problem(ready))
        except TimeoutError:
            return Reading(None, f"does not answer within {ANSWER_S_MAX:g} s at {instance.http_url}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _log.debug("metrics_not_read", instance=instance.instance_id, reason=str(error))
            return Reading(None, f"cannot be asked at {instance.http_url}: {error}")


def _problem(readiness: bytes) -> str:
    """Return what is wrong with a process by what its /readyz says; empty if nothing is."""
    answer = orjson.loads(readiness)
    checks = answer["checks"].items()
    return "; ".join(f"{name}: {check['problem']}" for name, check in checks if not check["ok"])
