"""Retries of calls that failed for a temporary reason."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from danube_client.errors import CallError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """A bounded number of attempts with exponential, jittered pauses.

    The defaults wait about 15 s in all, longer than the platform takes to replace a dead instance.

    Attributes:
        attempts_max: failures in a row after which the call gives up; 1 never retries.
        first_s: the upper bound of the first pause in seconds; it doubles with each failure.
        max_s: the upper bound of any pause in seconds.
        reconnect_for_s: how many seconds an open producer or consumer with native streaming tries to come
            back when its connection is lost, before it fails; None is without end.
    """

    attempts_max: int = 12
    first_s: float = 0.1
    max_s: float = 2.0
    reconnect_for_s: float | None = None

    def pause_s(self, failures: int) -> float:
        """Return the pause in seconds after ``failures`` (from 1): half of its bound to the bound."""
        bound = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    async def run(self, attempt: Callable[[], Awaitable[T]], on: tuple[type[CallError], ...]) -> T:
        """Return the result of the first successful attempt; errors of the types ``on`` are retried.

        Raises:
            CallError: an error of another type, or the error of the last attempt.
        """
        failures = 0
        while True:
            try:
                return await attempt()
            except on:
                failures += 1
                if failures >= self.attempts_max:
                    raise
            await asyncio.sleep(self.pause_s(failures))
