from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Claim, encode_record
from danube_common.errors import CorruptData, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.envelope import Done, ErrorReply, Reason
from danube_common.wire.owner.protocol import OWNER, owner_subject
from danube_common.wire.owner.sessions import ConsumerFound, Credit, FindConsumer, SessionState
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.metadata import MemoryMetadata

BUNDLE = Bundle.parse("f0")
ASK = FindConsumer(7)
FOUND = ConsumerFound(7, "c", "/default/t", "s", reliable=True, attached=False)
PATIENCE_S = 20.0


class Owner:
    """Answers what it is told to, or nothing at all while it is paused."""

    def __init__(self, reply: msgspec.Struct | bytes) -> None:
        self.reply = reply
        self.heard: list[object] = []
        self.asked = asyncio.Event()
        self.running = asyncio.Event()
        self.running.set()

    async def answer(self, data: bytes) -> bytes:
        self.heard.append(OWNER.decode_request(data))
        self.asked.set()
        await self.running.wait()
        return self.reply if isinstance(self.reply, bytes) else OWNER.encode(self.reply)


class Scene:
    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.bus = MemoryBus(MemoryHub())
        self.catalogue: Catalogue
        self.client: OwnerClient

    async def claim(self, owner: Owner | None) -> None:
        """The next owner; None claims and never serves."""
        epoch = await self.store.put(keys.owner_key(BUNDLE), encode_record(Claim("o", "n")))
        if owner is not None:
            await self.bus.serve(owner_subject(BUNDLE, epoch), owner.answer)
        while self.catalogue.epoch(BUNDLE) != epoch:  # noqa: ASYNC110 - a mirror tells nobody
            await asyncio.sleep(0)


@asynccontextmanager
async def open_owner_harness() -> AsyncIterator[Scene]:
    scene = Scene()
    scene.catalogue = await Catalogue.open(scene.store)
    scene.client = OwnerClient(scene.bus, scene.catalogue)
    yield scene
    await scene.catalogue.close()
    await scene.bus.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_owner_harness() as scene:
        yield scene


async def test_the_owners_answer_comes_back(scene: Scene) -> None:
    owner = Owner(FOUND)
    await scene.claim(owner)
    assert await scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S) == FOUND
    assert owner.heard == [ASK]


async def test_without_an_owner_it_is_unavailable_in_time(scene: Scene) -> None:
    with pytest.raises(Unavailable):
        await scene.client.ask(BUNDLE, ASK, timeout_s=0.05)
    await scene.claim(None)
    with pytest.raises(Unavailable):
        await scene.client.ask(BUNDLE, ASK, timeout_s=0.05)


async def test_a_request_waits_for_the_first_owner(scene: Scene) -> None:
    asking = asyncio.create_task(scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S))
    await asyncio.sleep(0)
    await scene.claim(Owner(FOUND))
    assert await asking == FOUND


async def test_a_request_goes_to_the_next_owner_when_the_present_one_is_silent(scene: Scene) -> None:
    paused = Owner(FOUND)
    paused.running.clear()
    await scene.claim(paused)
    asking = asyncio.create_task(scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S))
    await paused.asked.wait()
    await scene.claim(Owner(FOUND))
    assert await asking == FOUND
    paused.running.set()


async def test_an_owner_that_is_unavailable_is_asked_again(scene: Scene) -> None:
    owner = Owner(ErrorReply(Reason.UNAVAILABLE, "another owner has written"))
    await scene.claim(owner)
    asking = asyncio.create_task(scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S))
    await owner.asked.wait()
    owner.reply = FOUND
    assert await asking == FOUND
    assert len(owner.heard) >= 2


async def test_a_refusal_is_the_callers_error_and_is_not_repeated(scene: Scene) -> None:
    owner = Owner(ErrorReply(Reason.NOT_FOUND, "consumer 7 does not exist"))
    await scene.claim(owner)
    with pytest.raises(NotFound, match="consumer 7"):
        await scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S)
    assert len(owner.heard) == 1


@pytest.mark.parametrize("reply", [Done(), b"garbage", b""])
async def test_an_answer_to_something_else_is_corrupt_data(
    scene: Scene, reply: msgspec.Struct | bytes
) -> None:
    await scene.claim(Owner(reply))
    with pytest.raises(CorruptData):
        await scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S)


async def test_a_caller_that_gives_up_leaves_nothing_behind(scene: Scene) -> None:
    paused = Owner(FOUND)
    paused.running.clear()
    await scene.claim(paused)
    asking = asyncio.create_task(scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S))
    await paused.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    paused.running.set()
    assert await scene.client.ask(BUNDLE, ASK, timeout_s=PATIENCE_S) == FOUND


async def test_credit_is_passed_on_and_lost_without_an_owner(scene: Scene) -> None:
    credit = Credit([SessionState(7, 1, 10, 10)])
    await scene.client.grant(BUNDLE, credit)
    owner = Owner(Done())
    await scene.claim(owner)
    await scene.client.grant(BUNDLE, credit)
    await owner.asked.wait()
    assert owner.heard == [credit]
