from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import StoreUnavailable
from danube_common.runtime.metrics import Metrics
from danube_storage.reading.block_cache import BlockCache, Pool
from danube_storage.reading.metrics import ReadingMetrics

TAIL, BACKFILL = Pool.TAIL, Pool.BACKFILL


@dataclass(frozen=True)
class Piece:
    name: str
    size_bytes: int = 10
    keeps: bool = True


class Shelf:
    """A cache, and a source that counts what is read from it and can be held up."""

    def __init__(self, *, tail: int = 30, backfill: int = 30, loads_ahead_max: int = 4) -> None:
        self.metrics = Metrics("storage", "1")
        self.cache: BlockCache[str, Piece] = BlockCache(
            "blocks",
            {TAIL: tail, BACKFILL: backfill},
            ReadingMetrics(self.metrics),
            loads_max=2,
            loads_ahead_max=loads_ahead_max,
        )
        self.read: list[str] = []
        self.at_once = self.at_once_max = 0
        self.open = asyncio.Event()
        self.open.set()

    def load(self, piece: Piece) -> Callable[[], Awaitable[Piece]]:
        async def load() -> Piece:
            self.read.append(piece.name)
            self.at_once += 1
            self.at_once_max = max(self.at_once_max, self.at_once)
            try:
                await self.open.wait()
            finally:
                self.at_once -= 1
            return piece

        return load

    async def get(self, name: str, pool: Pool = TAIL, size_bytes: int = 10, *, keeps: bool = True) -> Piece:
        return await self.cache.get(name, pool, self.load(Piece(name, size_bytes, keeps)))

    def ahead(self, name: str, pool: Pool = TAIL) -> None:
        self.cache.ahead(name, pool, self.load(Piece(name)))

    def count(self, name: str, pool: Pool = TAIL) -> float:
        labels = {"cache": "blocks", "pool": str(pool)}
        return self.metrics.registry.get_sample_value(f"danube_storage_cache_{name}", labels) or 0.0


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_was_used_last_stays() -> None:
    shelf = Shelf()
    for name in ("a", "b", "c", "a", "d", "a", "b"):
        await shelf.get(name)
    assert shelf.read == ["a", "b", "c", "d", "b"]
    assert (shelf.count("hits_total"), shelf.count("misses_total")) == (2, 5)


async def test_a_backfill_pushes_nothing_out_of_the_tail() -> None:
    shelf = Shelf()
    for name in ("t1", "t2"):
        await shelf.get(name, TAIL)
    for number in range(100):
        await shelf.get(f"b{number}", BACKFILL)
    shelf.read.clear()
    for name in ("t1", "t2"):
        await shelf.get(name, TAIL)
    assert shelf.read == []


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(Pool), st.integers(1, 50))))
async def test_no_pool_holds_more_than_its_bound_or_one_block(gets: list[tuple[str, Pool, int]]) -> None:
    shelf = Shelf()
    sizes: dict[str, int] = {}
    for name, pool, size_bytes in gets:
        sizes.setdefault(name, size_bytes)
        assert (await shelf.get(name, pool, sizes[name])).name == name
        for bounded in Pool:
            assert shelf.cache.bytes_held(bounded) <= max(30, *sizes.values())


async def test_a_block_is_read_once_however_many_ask_at_the_same_time() -> None:
    shelf = Shelf()
    shelf.open.clear()
    asking = [asyncio.create_task(shelf.get("a")) for _ in range(5)]
    await settle()
    shelf.open.set()
    assert {piece.name for piece in await asyncio.gather(*asking)} == {"a"}
    assert shelf.read == ["a"]


async def test_who_gives_up_does_not_take_the_block_from_others() -> None:
    shelf = Shelf()
    shelf.open.clear()
    first, second = (asyncio.create_task(shelf.get("a")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    shelf.open.set()
    assert (await second).name == "a"
    assert shelf.read == ["a"]


async def test_reads_at_once_are_bounded() -> None:
    shelf = Shelf()
    shelf.open.clear()
    asking = [asyncio.create_task(shelf.get(f"{number}")) for number in range(6)]
    await settle()
    shelf.open.set()
    await asyncio.gather(*asking)
    assert shelf.at_once_max == 2


async def test_a_failure_is_told_to_everyone_who_waits_and_not_kept() -> None:
    shelf = Shelf()

    async def fail() -> Piece:
        raise StoreUnavailable("away")

    results = await asyncio.gather(
        *(shelf.cache.get("a", TAIL, fail) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert (await shelf.get("a")).name == "a"


async def test_what_is_not_to_be_kept_is_read_each_time() -> None:
    shelf = Shelf()
    for _ in range(2):
        await shelf.get("a", keeps=False)
    assert shelf.read == ["a", "a"]
    assert shelf.cache.bytes_held(TAIL) == 0


async def test_what_is_read_ahead_is_there_when_it_is_asked_for() -> None:
    shelf = Shelf()
    shelf.ahead("a")
    await settle()
    shelf.ahead("a")
    await shelf.get("a")
    assert shelf.read == ["a"]
    assert (shelf.count("ahead_bytes_total"), shelf.count("wasted_bytes_total")) == (10, 0)


async def test_what_was_read_ahead_in_vain_is_counted() -> None:
    shelf = Shelf()
    shelf.ahead("a")
    await settle()
    for name in ("b", "c", "d", "e"):
        await shelf.get(name)
    assert shelf.count("wasted_bytes_total") == 10


async def test_reading_ahead_is_bounded_and_left_out_beyond() -> None:
    shelf = Shelf(loads_ahead_max=2)
    shelf.open.clear()
    for number in range(5):
        shelf.ahead(f"{number}")
    await settle()
    shelf.open.set()
    await settle()
    assert shelf.read == ["0", "1"]
    shelf.ahead("4")
    await settle()
    assert shelf.read == ["0", "1", "4"]


async def test_a_dropped_block_is_read_anew() -> None:
    shelf = Shelf()
    await shelf.get("a")
    shelf.cache.drop("a")
    assert shelf.cache.bytes_held(TAIL) == 0
    await shelf.get("a")
    assert shelf.read == ["a", "a"]


async def test_closing_ends_what_is_being_read() -> None:
    shelf = Shelf()
    shelf.open.clear()
    asking = asyncio.create_task(shelf.get("a"))
    await settle()
    await shelf.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
