from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.records import Assignment, Claim, Instance, encode_record
from danube_common.errors import Conflict, JournalFenced, MetadataUnavailable
from danube_common.runtime.registration import Registration, RegistrationState
from danube_common.wire.owner.sessions import FindConsumer
from danube_harness.services.owner_harness import PATIENCE_S, OwnerHarness
from danube_topic_owner import ownership as ownership_module
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.journal.events import TopicRemoved
from danube_topic_owner.ownership import Ownership


class Member:
    """One topic-owner as far as owning goes, over the ports of a harness."""

    def __init__(self, harness: OwnerHarness, instance_id: str) -> None:
        self.instance_id = instance_id
        self.registration = Registration()
        self.ownership = Ownership(
            instance_id,
            harness.ports,
            harness.catalogue,
            registration=self.registration,
            window=Window(messages=50),
            metrics=harness.metrics,
        )
        self._harness = harness
        self._running: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def joined(cls, harness: OwnerHarness, instance_id: str) -> AsyncIterator[Member]:
        member = cls(harness, instance_id)
        await member.ownership.open()
        record = Instance(instance_id, "topic-owner", "http://127.0.0.1:1")
        lease = await register(harness.store, record)
        member._running = asyncio.create_task(member.ownership.run())
        member.registration.take(lease)
        try:
            yield member
        finally:
            member._running.cancel()
            await asyncio.gather(member._running, return_exceptions=True)
            await member.ownership.close()
            await lease.release()

    async def left(self) -> None:
        self.ownership.leave()
        assert self._running is not None
        await asyncio.wait_for(self._running, PATIENCE_S)

    async def serves(self) -> None:
        """Until this member has the harness's bundle; the harness asks it from then on."""
        harness = self._harness
        await until(lambda: self.ownership.owners.keys() == {harness.bundle})
        await until(lambda: harness.catalogue.owner(harness.bundle) == self.instance_id)
        harness.epoch = harness.catalogue.epoch(harness.bundle) or 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - whatever it waits for, on ports in memory a few turns bring it
            await asyncio.sleep(0)


async def assign(harness: OwnerHarness, instance_id: str) -> None:
    await harness.store.put(keys.assignment_key(harness.bundle), encode_record(Assignment(instance_id)))


@pytest.fixture
async def members(harness: OwnerHarness) -> AsyncIterator[tuple[Member, Member]]:
    async with AsyncExitStack() as opened:
        yield (
            await opened.enter_async_context(Member.joined(harness, "1")),
            await opened.enter_async_context(Member.joined(harness, "2")),
        )


async def test_what_was_acknowledged_before_a_handover_is_not_delivered_after_it(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, second = members
    await assign(harness, "1")
    await first.serves()
    gateway = await harness.gateway("g")
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, *"abcdef")
    await gateway.until(lambda: len(gateway.texts()) == 6)
    await gateway.ack(topic.name, "s", [gateway.positions()[number] for number in (0, 1, 3)])
    await assign(harness, "2")  # nothing of it is journaled yet
    await harness.publish(topic, "meanwhile")
    await second.serves()
    await gateway.attach(consumer)

    def again() -> list[str]:
        epoch = harness.epoch
        return [m.decode() for d in gateway.deliveries if d.epoch == epoch for _, m in d.entries()]

    await gateway.until(lambda: len(again()) == 4)
    assert again() == ["c", "e", "f", "meanwhile"]
    assert first.ownership.owners == {}


async def test_an_owner_that_leaves_gives_its_claims_back(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, second = members
    await assign(harness, "1")
    await first.serves()
    await first.left()
    assert await harness.store.get(keys.owner_key(harness.bundle)) is None
    await assign(harness, "2")
    await second.serves()


async def test_an_owner_that_leaves_takes_nothing_up(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    await members[0].left()
    await assign(harness, "1")
    await harness.settle()
    assert await harness.store.get(keys.owner_key(harness.bundle)) is None


async def test_the_bundle_of_a_dead_owner_is_taken_at_once(
    harness: OwnerHarness, members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership_module, "HANDOVER_WAIT_S", 1000.0)
    await harness.store.put(keys.owner_key(harness.bundle), encode_record(Claim("dead", "n")))
    await assign(harness, "2")
    await members[1].serves()


async def test_a_living_owner_that_does_not_let_go_loses_its_bundle(
    harness: OwnerHarness, members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership_module, "HANDOVER_WAIT_S", 0.05)
    stuck = await harness.own()
    await harness.store.put(keys.instance_key("9"), encode_record(Instance("9", "topic-owner", "")))
    await harness.store.put(keys.owner_key(harness.bundle), encode_record(Claim("9", "n")))
    await until(lambda: harness.catalogue.owner(harness.bundle) == "9")
    await assign(harness, "2")
    await members[1].serves()
    stuck.context.writer.record(TopicRemoved(1))
    with pytest.raises(JournalFenced):
        await stuck.context.writer.flushed()


async def test_a_request_that_meets_a_handover_is_refused_and_answered_by_the_next_owner(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, second = members
    await assign(harness, "1")
    await first.serves()
    gateway = await harness.gateway("g")
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await assign(harness, "2")
    await second.serves()
    assert (await harness.ask(FindConsumer(consumer))).topic == topic.name


async def test_a_place_that_only_cannot_be_confirmed_costs_no_bundle(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, _ = members
    await assign(harness, "1")
    await first.serves()
    epoch = harness.epoch
    first.registration.lose()
    assert first.registration.state is RegistrationState.UNCONFIRMED
    await harness.settle()
    assert first.ownership.owners.keys() == {harness.bundle}
    assert harness.catalogue.epoch(harness.bundle) == epoch


async def test_a_place_that_another_process_took_costs_every_bundle(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, _ = members
    await assign(harness, "1")
    await first.serves()
    first.registration._change(RegistrationState.TAKEN)
    await until(lambda: first.ownership.owners == {})


async def test_what_an_old_view_shows_as_assigned_is_not_claimed(
    harness: OwnerHarness, members: tuple[Member, Member]
) -> None:
    first, second = members
    await assign(harness, "2")
    await second.serves()
    first.ownership._assigned.add(harness.bundle)  # what a view shows that the store was cut off from
    with pytest.raises(Conflict, match="assigned to another owner"):
        await first.ownership._claim(harness.bundle)
    assert harness.catalogue.owner(harness.bundle) == "2"


async def test_no_bundle_is_handed_over_while_the_store_is_away(
    harness: OwnerHarness, members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership_module, "RETRY_WAIT_S", 0.001)
    first, second = members
    await assign(harness, "1")
    await first.serves()
    elsewhere = harness.store.handle()
    asked = 0

    async def away(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise MetadataUnavailable("not now")

    with monkeypatch.context() as outage:
        for call in ("get", "put", "delete", "list"):
            outage.setattr(harness.store, call, away)
        await elsewhere.put(keys.assignment_key(harness.bundle), encode_record(Assignment("2")))
        await until(lambda: asked > 3)
        assert first.ownership.owners.keys() == {harness.bundle}
        assert first.ownership.owners[harness.bundle].context.epoch == harness.epoch
        assert second.ownership.owners == {}
    await second.serves()
    assert first.ownership.owners == {}
