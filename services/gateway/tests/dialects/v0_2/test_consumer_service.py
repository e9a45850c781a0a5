from __future__ import annotations

from typing import Any, cast

import pytest

from danube_common.errors import Refused
from danube_common.model.bundle import Bundle
from danube_common.rpc.port import Call
from danube_common.wire.owner import ConsumerFound, CreateConsumer
from danube_gateway.dialects.v0_2 import consumer_service
from danube_gateway.dialects.v0_2.consumer_service import ConsumerService
from danube_proto import danube_api_pb2 as api

HOME = Bundle.parse("f0")
EXCLUSIVE, SHARED = api.ConsumerRequest.Exclusive, api.ConsumerRequest.Shared


class World:
    """A topic whose owner refuses some times, and what was done in between."""

    name, home = "/default/t", HOME

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.done: list[str] = []
        everything = cast("Any", self)
        self.service = ConsumerService(everything, everything, everything, everything)

    async def find(self, _name: object) -> World:
        return self

    def client(self, peer: str) -> str:
        return peer

    async def ask(self, bundle: Bundle, request: CreateConsumer, _reply: object) -> ConsumerFound:
        assert bundle == HOME
        self.done.append("asked")
        if self.refusals:
            self.refusals -= 1
            raise Refused("taken")
        return ConsumerFound(7, request.consumer_name, self.name, "s", reliable=True, attached=False)

    async def until_detached(self, bundle: Bundle, topic: str, subscription: str) -> None:
        assert (bundle, topic, subscription) == (HOME, self.name, "s")
        self.done.append("waited")

    async def subscribe(self, kind: Any) -> int:
        request = api.ConsumerRequest(
            topic_name=self.name, consumer_name="c", subscription="s", subscription_type=kind
        )
        data = await self.service.subscribe(Call("", request.SerializeToString()))
        return api.ConsumerResponse.FromString(data).consumer_id


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_service, "LEAVING_S", 0.001)


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
async def test_nothing_else_waits(kind: Any, refusals: int) -> None:
    world = World(refusals)
    if refusals:
        with pytest.raises(Refused):
            await world.subscribe(kind)
    else:
        assert await world.subscribe(kind) == 7
    assert world.done == ["asked"]
