from __future__ import annotations

from typing import Any, cast

import pytest

from danube_common.errors import Refused
from danube_common.model.bundle import Bundle
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.sessions import ConsumerFound, CreateConsumer
from danube_gateway.consume import admission
from danube_gateway.consume.admission import create_consumer

HOME = Bundle.parse("f0")
EXCLUSIVE, SHARED = SubscriptionType.EXCLUSIVE, SubscriptionType.SHARED


class World:
    """A topic whose owner refuses some times, and what was done in between."""

    name, home = "/default/t", HOME

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.done: list[str] = []

    def client(self, peer: str) -> str:
        return peer

    async def ask(self, bundle: Bundle, request: CreateConsumer) -> ConsumerFound:
        assert bundle == HOME
        self.done.append("asked")
        if self.refusals:
            self.refusals -= 1
            raise Refused("taken")
        return ConsumerFound(7, request.consumer_name, self.name, "s", reliable=True, attached=False)

    async def until_detached(self, bundle: Bundle, topic: str, subscription: str) -> None:
        assert (bundle, topic, subscription) == (HOME, self.name, "s")
        self.done.append("waited")

    async def subscribe(self, kind: SubscriptionType) -> int:
        everything = cast("Any", self)
        found = await create_consumer(everything, everything, everything, "s", kind, "c", "peer")
        return found.consumer_id


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LEAVING_S", 0.001)


async def test_an_exclusive_subscription_whose_consumer_is_leaving_is_asked_for_once_more() -> None:
    world = World(refusals=1)
    assert await world.subscribe(EXCLUSIVE) == 7
    assert world.done == ["asked", "waited", "asked"]


async def test_one_that_stays_taken_is_refused() -> None:
    world = World(refusals=2)
    with pytest.raises(Refused, match="taken"):
        await world.subscribe(EXCLUSIVE)
    assert world.done == ["asked", "waited", "asked"]


@pytest.mark.parametrize(("kind", "refusals"), [(SHARED, 1), (EXCLUSIVE, 0)])
async def test_nothing_else_waits(kind: SubscriptionType, refusals: int) -> None:
    world = World(refusals)
    if refusals:
        with pytest.raises(Refused):
            await world.subscribe(kind)
    else:
        assert await world.subscribe(kind) == 7
    assert world.done == ["asked"]
