"""Negative acknowledgements of one stream: they go to owners while the stream's next requests are read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from danube_common.errors import DanubeError
from danube_common.model.bundle import Bundle
from danube_gateway.consume.ack_forwarder import Delivered, Span

NACKS_MAX: Final = 10_000
"""Ranges of one stream that wait for their owners; at the bound no more requests are read."""
NACKS_AT_ONCE: Final = 16
"""Ranges of one stream of which owners are told at the same time."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Failure(NamedTuple):
    """What is said of a range; ranges of which the same is said go together if they are adjacent."""

    home: Bundle
    delivered: Delivered
    delay_ms: int
    reason: str


class Nacks:
    """Gathers ranges while owners answer.

    What an owner cannot be told is logged; its messages come again when their acknowledgement is overdue.

    Args:
        tell: tells an owner of one range.
    """

    def __init__(self, tell: Callable[[Failure, Span], Awaitable[None]]) -> None:
        self._tell = tell
        self._waiting: dict[Failure, list[Span]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()

    async def add(self, failure: Failure, spans: list[Span]) -> None:
        """Take ranges; wait while too many wait."""
        if not spans:
            return
        while self._count >= NACKS_MAX:
            self._told.clear()
            await self._told.wait()
        self._count += len(spans)
        self._waiting.setdefault(failure, []).extend(spans)
        self._wake.set()

    async def told(self) -> None:
        """Wait until owners were told of everything."""
        while self._count:
            self._told.clear()
            await self._told.wait()

    async def run(self) -> None:
        """Tell owners, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            ranges = [(failure, span) for failure, spans in waiting.items() for span in _joined(spans)]
            for at in range(0, len(ranges), NACKS_AT_ONCE):
                await asyncio.gather(*(self._try(*each) for each in ranges[at : at + NACKS_AT_ONCE]))
            self._count -= sum(map(len, waiting.values()))
            self._told.set()

    async def _try(self, failure: Failure, span: Span) -> None:
        try:
            await self._tell(failure, span)
        except DanubeError as error:
            _log.warning("nack_lost", topic=failure.delivered.topic, first=span[0], error=str(error))


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans with adjacent ones made one, ascending."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
