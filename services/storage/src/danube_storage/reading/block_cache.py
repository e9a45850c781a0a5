"""A cache of segment blocks with two pools, so that backfills do not evict what tail readers need."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from enum import StrEnum
from functools import partial
from typing import Generic, Protocol, TypeVar

from danube_storage.reading.metrics import ReadingMetrics

LOADS_MAX = 8
"""Blocks that are read at once; more reads wait."""
LOADS_AHEAD_MAX = 4
"""Blocks that are read ahead at once; further read-ahead is skipped."""


class Pool(StrEnum):
    """The kind of reader that a block is for. A pool never evicts blocks of the other."""

    TAIL = "tail"
    BACKFILL = "backfill"


class Block(Protocol):
    """What the cache holds."""

    @property
    def size_bytes(self) -> int:
        """Its size in memory."""

    @property
    def keeps(self) -> bool:
        """Whether it may be cached; a damaged block is read again each time."""


K = TypeVar("K", bound=Hashable)
B = TypeVar("B", bound=Block)


class BlockCache(Generic[K, B]):
    """An LRU cache for each pool. Concurrent requests for one block share one read.

    Args:
        name: of the cache in metrics.
        bytes_max: by pool; a single block may be larger.
        metrics: of this package.
        loads_max: the most reads at once.
        loads_ahead_max: the most reads at once that `ahead` started.
    """

    def __init__(
        self,
        name: str,
        bytes_max: Mapping[Pool, int],
        metrics: ReadingMetrics,
        *,
        loads_max: int = LOADS_MAX,
        loads_ahead_max: int = LOADS_AHEAD_MAX,
    ) -> None:
        self._hits = {pool: metrics.hits.labels(name, pool) for pool in Pool}
        self._misses = {pool: metrics.misses.labels(name, pool) for pool in Pool}
        self._ahead_bytes = {pool: metrics.ahead_bytes.labels(name, pool) for pool in Pool}
        self._wasted_bytes = {pool: metrics.wasted_bytes.labels(name, pool) for pool in Pool}
        for pool in Pool:
            metrics.held_bytes.labels(name, pool).set_function(partial(self.bytes_held, pool))
        self._bytes_max = dict(bytes_max)
        self._blocks: dict[Pool, OrderedDict[K, B]] = {pool: OrderedDict() for pool in Pool}
        self._bytes = dict.fromkeys(Pool, 0)
        self._unused: set[K] = set()
        self._loading: dict[K, asyncio.Task[B]] = {}
        self._load_slots = asyncio.Semaphore(loads_max)
        self._loads_ahead = 0
        self._loads_ahead_max = loads_ahead_max

    def bytes_held(self, pool: Pool) -> int:
        """Return the bytes that a pool holds."""
        return self._bytes[pool]

    async def get(self, key: K, pool: Pool, load: Callable[[], Awaitable[B]]) -> B:
        """Return the block from memory or from ``load``. Errors of ``load`` are raised and not cached."""
        block = self._find(key)
        if block is not None:
            self._hits[pool].inc()
            self._unused.discard(key)
            return block
        self._misses[pool].inc()
        task = self._loading.get(key) or self._begin(key, pool, load)
        # Other requests may wait for the same read: a cancelled request must not cancel it.
        block = await asyncio.shield(task)
        self._unused.discard(key)
        return block

    def ahead(self, key: K, pool: Pool, load: Callable[[], Awaitable[B]]) -> None:
        """Start reading a block that will probably be requested, unless ``loads_ahead_max`` is reached."""
        if self._loads_ahead >= self._loads_ahead_max or key in self._loading or self._find(key) is not None:
            return
        self._loads_ahead += 1
        self._unused.add(key)
        task = self._begin(key, pool, load)
        task.add_done_callback(lambda done: self._was_ahead(key, pool, done))

    def drop(self, key: K) -> None:
        """Remove a block. A read that is under way is not affected."""
        for pool, blocks in self._blocks.items():
            block = blocks.pop(key, None)
            if block is not None:
                self._bytes[pool] -= block.size_bytes
        self._unused.discard(key)

    async def close(self) -> None:
        """Stop reading. Idempotent."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, key: K) -> B | None:
        for blocks in self._blocks.values():
            block = blocks.get(key)
            if block is not None:
                blocks.move_to_end(key)
                return block
        return None

    def _begin(self, key: K, pool: Pool, load: Callable[[], Awaitable[B]]) -> asyncio.Task[B]:
        task = self._loading[key] = asyncio.create_task(self._load(key, pool, load), name="segment block")
        task.add_done_callback(lambda _: self._loading.pop(key, None))
        # Retrieve the error, as every waiting request may have been cancelled.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _load(self, key: K, pool: Pool, load: Callable[[], Awaitable[B]]) -> B:
        async with self._load_slots:
            block = await load()
        if block.keeps:
            self._keep(key, pool, block)
        return block

    def _keep(self, key: K, pool: Pool, block: B) -> None:
        blocks = self._blocks[pool]
        blocks[key] = block
        self._bytes[pool] += block.size_bytes
        while self._bytes[pool] > self._bytes_max[pool] and len(blocks) > 1:
            old_key, old = blocks.popitem(last=False)
            self._bytes[pool] -= old.size_bytes
            if old_key in self._unused:
                self._unused.discard(old_key)
                self._wasted_bytes[pool].inc(old.size_bytes)

    def _was_ahead(self, key: K, pool: Pool, done: asyncio.Task[B]) -> None:
        self._loads_ahead -= 1
        if done.cancelled() or done.exception() is not None:
            self._unused.discard(key)
        else:
            self._ahead_bytes[pool].inc(done.result().size_bytes)
            if not done.result().keeps:
                self._unused.discard(key)
