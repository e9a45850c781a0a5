from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast

import pytest

from danube_common.model.bundle import Bundle
from danube_common.model.failure_policy import REASON_CHARACTERS_MAX
from danube_common.model.run import Run
from danube_common.runtime.metrics import Metrics
from danube_common.wire.envelope import Done
from danube_common.wire.owner.acknowledgements import Acked, Acks, Nack
from danube_gateway.consume import ack_forwarder as forwarder_module
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.gateway_metrics import GatewayMetrics

BUNDLE = Bundle.parse("f0")
HERE = Delivered("/default/t", "s", 2)


class Owners:
    """Answers when its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.acked: list[int] = []
        self.nacks: list[Nack] = []

    async def ask(self, _bundle: Bundle, request: Acks | Nack) -> Acked | Done:
        if isinstance(request, Nack):
            self.nacks.append(request)
            return Done()
        await self.gate.wait()
        self.acked += [
            position
            for one in request.batches
            for first, last in one.spans()
            for position in range(first, last + 1)
        ]
        return Acked([])


class Scene:
    def __init__(self) -> None:
        self.owners = Owners()
        self.tasks: list[asyncio.Task[Any]] = []
        metrics = GatewayMetrics(Metrics("gateway", "g"))
        self.acks = Acknowledgements(cast("Any", self.owners), self.spawn, metrics)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self.tasks.append(task)
        return task

    def deliver(self, stream: object, first: int, count: int) -> list[int]:
        """Hand messages to a stream's client; return the positions that it got."""
        source = self.acks.join(stream, BUNDLE, HERE, reliable=True)
        batch = source.hand_out(stream, [Run.of(first, [b"x"] * count)])
        return [position for run in batch for position, _ in run.entries()]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    for task in scene.tasks:
        task.cancel()
    await asyncio.gather(*scene.tasks, return_exceptions=True)


async def test_what_a_stream_here_delivered_is_accepted_once(scene: Scene) -> None:
    scene.deliver("stream", 10, 3)
    assert [scene.acks.accept(HERE, position) for position in (11, 11, 9, 13)] == [True, False, False, False]


async def test_a_negative_acknowledgement_goes_to_the_owner_and_a_later_positive_one_counts(
    scene: Scene,
) -> None:
    scene.deliver("stream", 10, 3)
    await scene.acks.nack(BUNDLE, HERE, 11, delay_ms=50, reason="x" * (REASON_CHARACTERS_MAX + 1))
    reason = "x" * REASON_CHARACTERS_MAX
    assert scene.owners.nacks == [Nack("/default/t", "s", 11, 11, 2, 50, reason)]
    assert scene.acks.accept(HERE, 11)


async def test_another_subscription_or_generation_asks_the_owner(scene: Scene) -> None:
    scene.deliver("stream", 10, 3)
    for other in (HERE._replace(generation=1), HERE._replace(subscription="t"), HERE._replace(topic="/d/t")):
        assert not scene.acks.accept(other, 10)


async def test_what_an_ended_stream_delivered_asks_the_owner(scene: Scene) -> None:
    scene.deliver("ended", 10, 3)
    scene.deliver("open", 20, 3)
    scene.acks.leave("ended")
    scene.acks.leave("ended")
    assert (scene.acks.accept(HERE, 10), scene.acks.accept(HERE, 20)) == (False, True)
    scene.acks.leave("open")
    assert not scene.acks.accept(HERE, 21)
    assert not scene.acks._sources


async def test_a_stream_that_is_attached_to_another_generation_leaves_the_one_before(scene: Scene) -> None:
    scene.deliver("stream", 10, 3)
    scene.acks.join("stream", BUNDLE, HERE._replace(generation=3), reliable=True)
    assert not scene.acks.accept(HERE, 10)
    scene.acks.leave("stream")
    assert not scene.acks._sources


async def test_at_the_bound_an_acknowledgement_waits_for_the_owner(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "UNCONFIRMED_ACKS_MAX", 2)
    scene.deliver("stream", 10, 3)
    assert scene.acks.accept(HERE, 10)
    assert scene.acks.accept(HERE, 11)
    waits = asyncio.create_task(scene.acks.acknowledge(BUNDLE, HERE, 12))
    await asyncio.sleep(0.01)
    assert not waits.done()
    scene.owners.gate.set()
    await waits
    await scene.acks.drain(20.0)
    assert sorted(scene.owners.acked) == [10, 11, 12]


async def test_what_is_acknowledged_and_not_confirmed_is_not_handed_out_again(scene: Scene) -> None:
    """An owner that was not told yet, or another one, may send it once more."""
    scene.deliver("stream", 10, 5)
    assert all(scene.acks.accept(HERE, position) for position in (10, 12, 13))
    await asyncio.sleep(0.01)  # now they are in flight, and the next ones are not
    assert scene.acks.accept(HERE, 14)
    assert scene.deliver("another", 8, 9) == [8, 9, 11, 15, 16]
    assert scene.deliver("another", 12, 3) == []
    scene.owners.gate.set()
    await scene.acks.drain(20.0)
    assert scene.deliver("another", 12, 3) == [12, 13, 14]


async def test_what_comes_again_behind_later_messages_is_not_handed_out_either(scene: Scene) -> None:
    scene.deliver("stream", 10, 3)
    assert scene.acks.accept(HERE, 11)
    source = scene.acks.join("stream", BUNDLE, HERE, reliable=True)
    batch = source.hand_out("stream", [Run.of(20, [b"x"]), Run.of(10, [b"x"] * 3)])
    assert [position for run in batch for position, _ in run.entries()] == [20, 10, 12]


async def test_an_acknowledgement_means_nothing_to_a_non_reliable_topic(scene: Scene) -> None:
    source = scene.acks.join("stream", BUNDLE, HERE, reliable=False)
    batch = [Run.of(0, [b"x"])]
    assert source.hand_out("stream", batch) is batch
    assert scene.acks.accept(HERE, 7)
    await scene.acks.drain(20.0)
    assert scene.owners.acked == []


async def test_a_drain_ends_although_no_owner_confirms(scene: Scene) -> None:
    scene.deliver("stream", 10, 1)
    assert scene.acks.accept(HERE, 10)
    await scene.acks.drain(0.01)
