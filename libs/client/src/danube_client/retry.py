"""How often and how patiently something is tried again."""

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
    """A bounded number of attempts with growing, jittered pauses between them.

    The defaults wait about 15 s in all: longer than the platform takes to replace a dead instance.

    Attributes:
        attempts_max: attempts in a row without success before giving up; 1 never repeats.
        first_s: the longest first pause; each further one may be twice as long.
        max_s: the longest pause.
    """

    attempts_max: int = 12
    first_s: float = 0.1
    max_s: float = 2.0

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures (from 1), between half and the whole of its bound."""
        bound = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    async def run(self, attempt: Callable[[], Awaitable[T]], on: tuple[type[CallError], ...]) -> T:
        """The result of the first attempt that succeeds.

        Raises:
            CallError: an error that is not one of ``on``, or the last attempt's.
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
