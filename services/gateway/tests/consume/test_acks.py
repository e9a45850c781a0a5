from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from danube_common.errors import LimitExceeded, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.owner import ACKS_PER_BATCH_MAX, Acked, Acks
from danube_gateway.consume import acks as acks_module
from danube_gateway.consume.acks import AckBatcher, Delivered

BUNDLE = Bundle.parse("f0")


class ScriptedOwners:
    """Replaces the owner client: records the batches, and answers when its gate is open."""

    def __init__(self) -> None:
        self.batches: list[Acks] = []
        self.unknown: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.asking = 0

    async def ask(self, bundle: Bundle, request: Acks, reply: type[Acked]) -> Acked:
        assert (bundle, reply) == (BUNDLE, Acked)
        self.asking += 1
        assert self.asking == 1, "one batch in flight"
        self.batches.append(request)
        self.asked.set()
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return Acked(self.unknown)
        finally:
            self.asking -= 1

    def positions(self, number: int) -> dict[tuple[str, str], list[int]]:
        return {(one.topic, one.subscription): one.positions for one in self.batches[number].batches}


@asynccontextmanager
async def running(owners: Any) -> AsyncIterator[AckBatcher]:
    batcher = AckBatcher(BUNDLE, owners)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_acknowledgements_that_gather_go_in_one_batch() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as batcher:
        first = asyncio.create_task(batcher.acknowledge(Delivered("/default/t", "s", 0), 1))
        await owners.asked.wait()
        rest = [
            asyncio.create_task(batcher.acknowledge(Delivered(f"/default/{topic}", "s", 0), position))
            for position in range(2, 40)
            for topic in ("t", "u")
        ]
        await asyncio.sleep(0)
        assert not first.done()
        owners.gate.set()
        await asyncio.gather(first, *rest)
    assert owners.positions(0) == {("/default/t", "s"): [1]}
    assert owners.positions(1) == {(f"/default/{topic}", "s"): list(range(2, 40)) for topic in ("t", "u")}
    assert len(owners.batches) == 2


async def test_only_those_of_an_unknown_subscription_fail() -> None:
    owners = ScriptedOwners()
    owners.unknown = [("/default/t", "gone")]
    async with running(owners) as batcher:
        results = await asyncio.gather(
            *(batcher.acknowledge(Delivered("/default/t", name, 0), 1) for name in ("gone", "s", "gone")),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [NotFound, type(None), NotFound]


async def test_without_an_owner_every_acknowledgement_is_answered_with_the_error() -> None:
    owners = ScriptedOwners()
    owners.error = Unavailable("nobody owns it")
    async with running(owners) as batcher:
        results = await asyncio.gather(
            *(batcher.acknowledge(Delivered("/default/t", "s", 0), n) for n in range(5)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [Unavailable] * 5
        owners.error = None
        await batcher.acknowledge(Delivered("/default/t", "s", 0), 9)


async def test_batches_and_what_waits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks_module, "PENDING_ACKS_MAX", ACKS_PER_BATCH_MAX + 10)
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as batcher:
        waiting = [asyncio.create_task(batcher.acknowledge(Delivered("/default/t", "s", 0), 0))]
        await owners.asked.wait()
        waiting += [
            asyncio.create_task(batcher.acknowledge(Delivered("/default/t", "s", 0), n))
            for n in range(1, ACKS_PER_BATCH_MAX + 11)
        ]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await batcher.acknowledge(Delivered("/default/t", "s", 0), 99)
        owners.gate.set()
        await asyncio.gather(*waiting)
    assert [len(one.batches[0].positions) for one in owners.batches] == [1, ACKS_PER_BATCH_MAX, 10]


async def test_a_caller_that_went_away_holds_up_nobody() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as batcher:
        gone = asyncio.create_task(batcher.acknowledge(Delivered("/default/t", "s", 0), 1))
        stays = asyncio.create_task(batcher.acknowledge(Delivered("/default/t", "s", 0), 2))
        await owners.asked.wait()
        gone.cancel()
        await asyncio.sleep(0)
        owners.gate.set()
        await stays
