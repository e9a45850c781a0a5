"""The rates of the last hour from Prometheus, where one is configured."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog

from danube_admin_service.cluster.process_http import body_of
from danube_admin_service.console.live.scrape import FLOWS, Flow

WINDOW_S: Final = 3600
STEP_S: Final = 30
SAMPLES_MAX: Final = WINDOW_S // STEP_S + 1
RATE_OVER: Final = "1m"
ANSWER_S_MAX: Final = 3.0
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
TOPICS_MAX: Final = 200
"""Of one question: partitions beyond are not counted."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Prometheus:
    """Asks for ranges. ``url`` is the server's, without a path of the API."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def history(self, topics: Sequence[str] | None, now_s: float) -> list[Flow] | None:
        """Return the rates of topics together, of all for None, every STEP_S; None if it cannot be asked."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                found = await asyncio.gather(*(self._range(session, name, topics, now_s) for name in FLOWS))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            _log.warning("prometheus_not_read", url=self._url, reason=str(error) or type(error).__name__)
            return None
        return [Flow(*values) for values in zip(*found, strict=True)]

    async def _range(
        self, session: aiohttp.ClientSession, metric: str, topics: Sequence[str] | None, now_s: float
    ) -> list[float]:
        query = range_query(metric, topics)
        asked = {
            "query": query,
            "start": f"{now_s - WINDOW_S:.0f}",
            "end": f"{now_s:.0f}",
            "step": str(STEP_S),
        }
        url = f"{self._url}/api/v1/query_range?{urlencode(asked)}"
        return samples(orjson.loads(await body_of(session, url, ANSWER_BYTES_MAX)), now_s)


def range_query(metric: str, topics: Sequence[str] | None) -> str:
    """Return the question for a rate."""
    if topics is None:
        return f"sum(rate({metric}[{RATE_OVER}]))"
    names = "|".join(_quoted(name) for name in topics[:TOPICS_MAX])
    return f'sum(rate({metric}{{topic=~"{names}"}}[{RATE_OVER}]))'


def _quoted(name: str) -> str:
    """Write a name within a regular expression within a string."""
    return "".join(each if each.isalnum() or each in "/_-" else f"\\\\{each}" for each in name)


def samples(answer: Any, now_s: float) -> list[float]:
    """Read an answer: SAMPLES_MAX values, 0 where there is none. Raises KeyError, ValueError, TypeError."""
    if answer["status"] != "success":
        raise ValueError(str(answer.get("error", "it answered without success"))[:200])
    values = [0.0] * SAMPLES_MAX
    begin_s = now_s - WINDOW_S
    for series in answer["data"]["result"]:
        for at_s, value in series["values"]:
            index = round((float(at_s) - begin_s) / STEP_S)
            number = float(value)
            if 0 <= index < SAMPLES_MAX and math.isfinite(number):
                values[index] += number
    return values
