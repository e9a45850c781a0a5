from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from danube_common.errors import Unavailable
from danube_common.model.bundle import Bundle
from danube_gateway.consume.ack_forwarder import Delivered, Span
from danube_gateway.dialects.stream import nacks as module
from danube_gateway.dialects.stream.nacks import Failure, Nacks

BUSY = Failure(Bundle.parse("f0"), Delivered("/default/t", "s", 1), 0, "busy")
LATER = BUSY._replace(delay_ms=500)


class Owner:
    """Takes what it is told once it may; ``refuses`` some ranges."""

    def __init__(self) -> None:
        self.told: list[tuple[Failure, Span]] = []
        self.may = asyncio.Event()
        self.refuses: set[Span] = set()

    async def tell(self, failure: Failure, span: Span) -> None:
        await self.may.wait()
        if span in self.refuses:
            raise Unavailable("no owner")
        self.told.append((failure, span))


@asynccontextmanager
async def running(owner: Owner) -> AsyncIterator[Nacks]:
    nacks = Nacks(owner.tell)
    task = asyncio.create_task(nacks.run())
    try:
        yield nacks
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_nacks_wait_for_no_owner_and_adjacent_ones_of_one_kind_go_together() -> None:
    owner = Owner()
    async with running(owner) as nacks:
        await nacks.add(BUSY, [(1, 1)])
        await asyncio.sleep(0)  # the first one is on its way
        for position in (5, 3, 4, 9):
            await nacks.add(BUSY, [(position, position)])
        await nacks.add(LATER, [(6, 6)])
        assert not owner.told
        owner.may.set()
        await nacks.told()
    assert owner.told == [(BUSY, (1, 1)), (BUSY, (3, 5)), (BUSY, (9, 9)), (LATER, (6, 6))]


async def test_nacks_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NACKS_MAX", 2)
    owner = Owner()
    async with running(owner) as nacks:
        await nacks.add(BUSY, [(1, 1), (7, 7)])
        more = asyncio.create_task(nacks.add(BUSY, [(9, 9)]))
        await asyncio.sleep(0)
        assert not more.done()
        owner.may.set()
        await more
        await nacks.told()
    assert [span for _, span in owner.told] == [(1, 1), (7, 7), (9, 9)]


async def test_a_nack_that_no_owner_takes_does_not_hold_up_others() -> None:
    owner = Owner()
    owner.refuses = {(1, 1)}
    owner.may.set()
    async with running(owner) as nacks:
        await nacks.add(BUSY, [(1, 1), (3, 3)])
        await nacks.told()
    assert owner.told == [(BUSY, (3, 3))]
