"""A bound on bytes a second for readers in the background."""

from __future__ import annotations

import asyncio
import time

from danube_common.model.rate_limit import TokenBucket


class BytePace:
    """Keeps all who share it below ``bytes_per_s`` together; 0 sets no bound."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bucket = TokenBucket(bytes_per_s, time.monotonic())

    async def __call__(self, size_bytes: int) -> None:
        """Account for bytes that were read, and wait until the next ones may be."""
        self._bucket.take(size_bytes)
        debt_s = self._bucket.debt_s(time.monotonic())
        if debt_s > 0:
            await asyncio.sleep(debt_s)
