from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from danube_common.errors import InvalidInput, LimitExceeded, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.runtime.metrics import Metrics
from danube_common.wire.owner.acknowledgements import ACKS_PER_BATCH_MAX, Acked, Acks, TopicAcks
from danube_gateway.consume import ack_forwarder as forwarder_module
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered
from danube_gateway.gateway_metrics import GatewayMetrics

BUNDLE = Bundle.parse("f0")
HERE = Delivered("/default/t", "s", 0)
TIMEOUT_S = 20.0


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

    async def ask(self, bundle: Bundle, request: Acks) -> Acked:
        assert bundle == BUNDLE
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
        return {(one.topic, one.subscription): positions(one) for one in self.batches[number].batches}


def positions(acks: TopicAcks) -> list[int]:
    return [position for first, last in acks.spans() for position in range(first, last + 1)]


@asynccontextmanager
async def running(owners: Any) -> AsyncIterator[AckForwarder]:
    forwarder = AckForwarder(BUNDLE, owners, GatewayMetrics(Metrics("gateway", "g")))
    task = asyncio.create_task(forwarder.run())
    try:
        yield forwarder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - what is polled has no event
            await asyncio.sleep(0.001)


# Those that wait for the owner's answer


async def test_acknowledgements_that_gather_go_in_one_batch() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        first = asyncio.create_task(forwarder.acknowledge(HERE, 1))
        await owners.asked.wait()
        rest = [
            asyncio.create_task(forwarder.acknowledge(Delivered(f"/default/{topic}", "s", 0), position))
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
    async with running(owners) as forwarder:
        results = await asyncio.gather(
            *(forwarder.acknowledge(Delivered("/default/t", name, 0), 1) for name in ("gone", "s", "gone")),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [NotFound, type(None), NotFound]


async def test_without_an_owner_every_acknowledgement_that_waits_gets_the_error() -> None:
    owners = ScriptedOwners()
    owners.error = Unavailable("nobody owns it")
    async with running(owners) as forwarder:
        results = await asyncio.gather(
            *(forwarder.acknowledge(HERE, n) for n in range(5)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Unavailable] * 5
        owners.error = None
        await forwarder.acknowledge(HERE, 9)


async def test_batches_and_what_waits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder_module, "PENDING_ACKS_MAX", ACKS_PER_BATCH_MAX + 10)
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        waiting = [asyncio.create_task(forwarder.acknowledge(HERE, 0))]
        await owners.asked.wait()
        waiting += [
            asyncio.create_task(forwarder.acknowledge(HERE, n)) for n in range(1, ACKS_PER_BATCH_MAX + 11)
        ]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await forwarder.acknowledge(HERE, 99)
        owners.gate.set()
        await asyncio.gather(*waiting)
    assert [len(positions(one.batches[0])) for one in owners.batches] == [1, ACKS_PER_BATCH_MAX, 10]


async def test_a_caller_that_went_away_holds_up_nobody() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        gone = asyncio.create_task(forwarder.acknowledge(HERE, 1))
        stays = asyncio.create_task(forwarder.acknowledge(HERE, 2))
        await owners.asked.wait()
        gone.cancel()
        await asyncio.sleep(0)
        owners.gate.set()
        await stays


# Those that were answered at once


def singles(forwarder: AckForwarder) -> list[int]:
    spans = sorted(forwarder.unconfirmed_of(HERE, 0, 1 << 62))
    assert all(first == last for first, last in spans)
    return [first for first, _ in spans]


async def test_spans_and_positions_go_together_and_overlap_at_will() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        forwarder.accept(HERE, 20)
        forwarder.accept_spans(HERE, [(11, 15), (5, 9)])
        forwarder.accept_spans(HERE, [(8, 11)])
        await owners.asked.wait()
        assert owners.batches[0].batches[0].ranges == [5, 11, 20, 1]
        assert forwarder.unconfirmed == 4
        assert sorted(forwarder.unconfirmed_of(HERE, 0, 1 << 62)) == [(5, 9), (8, 11), (11, 15), (20, 20)]
        assert sorted(forwarder.unconfirmed_of(HERE, 11, 12)) == [(8, 11), (11, 15)]
        owners.gate.set()
        await asyncio.wait_for(forwarder.confirmed(), TIMEOUT_S)
        assert (forwarder.unconfirmed, forwarder.unconfirmed_of(HERE, 0, 1 << 62)) == (0, [])


async def test_accepted_ones_go_as_ranges_and_count_until_they_are_confirmed() -> None:
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        for position in (7, 5, 6, 5, 9):
            forwarder.accept(HERE, position)
        await owners.asked.wait()
        assert owners.batches[0].batches[0].ranges == [5, 3, 9, 1]
        assert forwarder.unconfirmed == 5
        assert singles(forwarder) == [5, 5, 6, 7, 9]
        forwarder.accept(HERE, 10)
        assert singles(forwarder) == [5, 5, 6, 7, 9, 10]
        owners.gate.set()
        await asyncio.wait_for(forwarder.confirmed(), TIMEOUT_S)
        assert (forwarder.unconfirmed, forwarder.unconfirmed_of(HERE, 0, 1 << 62)) == (0, [])
    assert owners.positions(1) == {("/default/t", "s"): [10]}


async def test_accepted_ones_are_repeated_until_an_owner_confirms_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarder_module, "RETRY_WAIT_S", 0.001)
    owners = ScriptedOwners()
    owners.error = Unavailable("nobody owns it")
    async with running(owners) as forwarder:
        forwarder.accept(HERE, 1)
        flush = asyncio.create_task(forwarder.confirmed())
        await until(lambda: len(owners.batches) >= 2)
        forwarder.accept(HERE, 2)
        await until(lambda: owners.positions(-1) == {("/default/t", "s"): [1, 2]})
        assert not flush.done()
        owners.error = None
        await asyncio.wait_for(flush, TIMEOUT_S)
        await until(lambda: forwarder.unconfirmed == 0)


@pytest.mark.parametrize("error", [None, InvalidInput("not understood")], ids=["unknown", "refused"])
async def test_accepted_ones_that_cannot_count_are_given_up_and_told(error: Exception | None) -> None:
    owners = ScriptedOwners()
    owners.error, owners.unknown = error, [("/default/t", "s")]
    async with running(owners) as forwarder:
        forwarder.accept(HERE, 1)
        await asyncio.wait_for(forwarder.confirmed(), TIMEOUT_S)
        assert forwarder.unconfirmed == 0
        assert forwarder._metrics.void_acks.labels("/default/t")._value.get() == 1
    assert len(owners.batches) == 1


async def test_there_is_room_for_a_bounded_number_of_unconfirmed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarder_module, "UNCONFIRMED_ACKS_MAX", 3)
    owners = ScriptedOwners()
    owners.gate.clear()
    async with running(owners) as forwarder:
        for position in range(3):
            assert forwarder.has_room
            forwarder.accept(HERE, position)
        assert not forwarder.has_room
        owners.gate.set()
        await asyncio.wait_for(forwarder.confirmed(), TIMEOUT_S)
        assert forwarder.has_room


async def test_what_is_accepted_leaves_room_in_a_batch_for_those_that_wait() -> None:
    assert forwarder_module.UNCONFIRMED_ACKS_MAX < ACKS_PER_BATCH_MAX


@pytest.mark.parametrize("by", ["a stream that waits for it", "a client that waits for it", "a flush"])
async def test_what_gathers_goes_as_soon_as_somebody_waits_for_it(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "GATHER_S", 3600.0)
    owners = ScriptedOwners()
    async with running(owners) as forwarder:
        forwarder.accept(HERE, 1)
        await until(lambda: forwarder.unconfirmed == 0)
        forwarder.accept(HERE, 2)
        forwarder.accept(HERE, 3)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(owners.batches) == 1, "the next ones gather"
        if by == "a stream that waits for it":
            forwarder.accept(HERE, 4, urgent=True)
        elif by == "a client that waits for it":
            await asyncio.wait_for(forwarder.acknowledge(HERE, 4), TIMEOUT_S)
        else:
            await asyncio.wait_for(forwarder.confirmed(), TIMEOUT_S)
        await until(lambda: len(owners.batches) == 2)
        assert owners.positions(1)["/default/t", "s"][:2] == [2, 3]
