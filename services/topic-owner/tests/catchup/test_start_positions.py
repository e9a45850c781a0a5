from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound, Refused
from danube_common.model.policies import PolicyOverrides
from danube_common.model.position import position_of
from danube_common.model.subscription import StartKind, StartPosition
from danube_common.wire.owner.acknowledgements import Acks, TopicAcks, ack_ranges
from danube_common.wire.owner.subscriptions import CreateSubscription, ResetSubscription, SubscriptionFound
from danube_common.wire.owner.topics import DescribeTopic
from danube_harness.services.fake_archive import FakeArchive, open_fake_archive
from danube_harness.services.owner_harness import DISK, EXCLUSIVE, NON_RELIABLE, SHARED, Gateway, OwnerHarness

EARLIEST, LATEST = StartPosition(StartKind.EARLIEST), StartPosition(StartKind.LATEST)


def last(count: int) -> StartPosition:
    return StartPosition(StartKind.LAST, count)


def at(sequence: int, section: int = 0, index: int = 0) -> StartPosition:
    return StartPosition(StartKind.POSITION, position_of(sequence, section, index))


def since(time_ms: int) -> StartPosition:
    return StartPosition(StartKind.TIME, time_ms)


@pytest.fixture
async def fake_archive(harness: OwnerHarness) -> AsyncIterator[FakeArchive]:
    async with open_fake_archive(harness) as fake_archive:
        yield fake_archive


@pytest.fixture
async def topic(harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway) -> Topic:
    """Sequences 1 to 6 at 1 s to 6 s: a0 | a1 a2 | other | a3 || a4 | a5; before || all is archived."""
    assert gateway.deliveries == []
    topic, other = await harness.topic("/default/t", DISK), await harness.topic("/default/other", DISK)
    frames = [["a0"], ["a1", "a2"], ["x"], ["a3"], ["a4"], ["a5"]]
    for second, texts in enumerate(frames, start=1):
        harness.log._now_ms = lambda second=second: second * 1000  # type: ignore[misc]
        await harness.publish(other if texts == ["x"] else topic, *texts)
        if second == 2:
            await fake_archive.seal()
        if second == 4:
            await fake_archive.seal(shared=(topic.topic_id, other.topic_id))
    await fake_archive.purge()
    return topic


async def create(
    harness: OwnerHarness, topic: Topic, start: StartPosition, name: str = "s"
) -> SubscriptionFound:
    return await harness.ask(CreateSubscription(topic.name, name, EXCLUSIVE, start))


async def read(gateway: Gateway, topic: Topic, count: int, name: str = "s") -> list[str]:
    gateway.deliveries.clear()
    consumer = await gateway.subscribe(topic.name, name)
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts(consumer)) >= count)
    await gateway.harness.settle()
    return gateway.texts(consumer)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (EARLIEST, ["a0", "a1", "a2", "a3", "a4", "a5"]),
        (at(1), ["a0", "a1", "a2", "a3", "a4", "a5"]),
        (at(2), ["a1", "a2", "a3", "a4", "a5"]),
        (at(2, 0, 1), ["a2", "a3", "a4", "a5"]),
        (at(3), ["a3", "a4", "a5"]),
        (at(6), ["a5"]),
        (at(900), []),
        (since(0), ["a0", "a1", "a2", "a3", "a4", "a5"]),
        (since(1000), ["a0", "a1", "a2", "a3", "a4", "a5"]),
        (since(1001), ["a1", "a2", "a3", "a4", "a5"]),
        (since(3000), ["a3", "a4", "a5"]),
        (since(4500), ["a4", "a5"]),
        (since(6000), ["a5"]),
        (since(6001), []),
        (last(1), ["a5"]),
        (last(2), ["a4", "a5"]),
        (last(3), ["a3", "a4", "a5"]),
        (last(4), ["a2", "a3", "a4", "a5"]),
        (last(5), ["a1", "a2", "a3", "a4", "a5"]),
        (last(99), ["a0", "a1", "a2", "a3", "a4", "a5"]),
        (LATEST, []),
    ],
)
async def test_a_subscription_begins_where_it_was_asked_to(
    harness: OwnerHarness, gateway: Gateway, topic: Topic, start: StartPosition, expected: list[str]
) -> None:
    assert (await create(harness, topic, start)).created
    assert await read(gateway, topic, len(expected)) == expected
    await harness.publish(topic, "a6")
    await gateway.until(lambda: gateway.texts() == [*expected, "a6"])


async def test_the_same_start_holds_for_the_next_owner(
    harness: OwnerHarness, gateway: Gateway, topic: Topic
) -> None:
    found = await create(harness, topic, last(3))
    await harness.kill()
    await harness.own()
    assert await create(harness, topic, EARLIEST) == SubscriptionFound(
        "s", created=False, mark_delete=found.mark_delete
    )
    assert await read(gateway, topic, 3) == ["a3", "a4", "a5"]


async def test_a_subscription_that_is_there_keeps_its_type(harness: OwnerHarness, topic: Topic) -> None:
    await create(harness, topic, LATEST)
    with pytest.raises(AlreadyExists, match="exclusive"):
        await harness.ask(CreateSubscription(topic.name, "s", SHARED, LATEST))


@pytest.mark.parametrize(
    "start", [last(0), StartPosition(StartKind.POSITION, 0), last(1 << 40), StartPosition(StartKind.TIME, -1)]
)
async def test_a_start_that_cannot_be_meant_is_refused(
    harness: OwnerHarness, topic: Topic, start: StartPosition
) -> None:
    with pytest.raises(InvalidInput):
        await create(harness, topic, start)
    with pytest.raises(NotFound):
        await harness.ask(ResetSubscription(topic.name, "s", LATEST))


async def test_a_topic_that_keeps_nothing_has_no_past(harness: OwnerHarness, gateway: Gateway) -> None:
    fast = await harness.topic("/default/fast", NON_RELIABLE)
    assert gateway.deliveries == []
    assert (await create(harness, fast, EARLIEST, "a")).created
    assert (await create(harness, fast, LATEST, "b")).created
    with pytest.raises(InvalidInput, match="keeps no messages"):
        await create(harness, fast, last(1))
    with pytest.raises(Refused, match="keeps no messages"):
        await harness.ask(ResetSubscription(fast.name, "a", LATEST))


async def test_the_limit_of_subscriptions_holds(harness: OwnerHarness, topic: Topic) -> None:
    await harness.topics.set_policies(topic.topic_name, PolicyOverrides(max_subscriptions_per_topic=1))
    await harness.settle()
    await create(harness, topic, LATEST)
    with pytest.raises(LimitExceeded, match="max_subscriptions_per_topic"):
        await create(harness, topic, LATEST, "another")
    assert not (await create(harness, topic, EARLIEST)).created


async def test_a_reset_goes_back_and_forward_and_ends_the_streams(
    harness: OwnerHarness, gateway: Gateway, topic: Topic
) -> None:
    assert await read(gateway, topic, 6) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    await gateway.ack(topic.name, "s", gateway.positions())
    await harness.ask(ResetSubscription(topic.name, "s", last(2)))
    await harness.settle()
    assert [notice.reason for notice in gateway.notices] == ["the subscription was reset"]
    assert await read(gateway, topic, 2) == ["a4", "a5"]
    await harness.ask(ResetSubscription(topic.name, "s", at(2, 0, 1)))
    await harness.kill()
    await harness.own()
    assert await read(gateway, topic, 4) == ["a2", "a3", "a4", "a5"]
    await harness.ask(ResetSubscription(topic.name, "s", LATEST))
    assert await read(gateway, topic, 0) == []


@pytest.mark.parametrize("owner_dies", [False, True])
async def test_an_acknowledgement_from_before_a_reset_does_not_count_after_it(
    harness: OwnerHarness, gateway: Gateway, topic: Topic, owner_dies: bool
) -> None:
    await read(gateway, topic, 6)
    late = gateway.positions()
    await harness.ask(ResetSubscription(topic.name, "s", EARLIEST))
    if owner_dies:
        await harness.kill()
        await harness.own()
    assert await read(gateway, topic, 6) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    await harness.ask(Acks([TopicAcks(topic.name, "s", ack_ranges(late), generation=0)]))
    (detail,) = (await harness.ask(DescribeTopic(topic.name))).subscriptions
    assert (detail.backlog, detail.unacked) == (6, 6)
    await harness.ask(Acks([TopicAcks(topic.name, "s", ack_ranges(late), generation=1)]))
    (detail,) = (await harness.ask(DescribeTopic(topic.name))).subscriptions
    assert (detail.backlog, detail.unacked) == (0, 0)


async def test_a_topic_is_described(harness: OwnerHarness, gateway: Gateway, topic: Topic) -> None:
    await create(harness, topic, EARLIEST, "all")
    await create(harness, topic, at(2, 0, 1), "some")
    await create(harness, topic, LATEST, "none")
    assert await read(gateway, topic, 6) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    await gateway.ack(topic.name, "s", gateway.positions()[:2] + gateway.positions()[4:5])
    found = await harness.ask(DescribeTopic(topic.name))
    assert (found.log_first_sequence, found.log_last_sequence, found.archived_through) == (5, 6, 4)
    assert [(s.name, s.backlog, s.unacked, s.consumers) for s in found.subscriptions] == [
        ("all", 6, 0, []),
        ("none", 0, 0, []),
        ("s", 3, 3, ["c"]),
        ("some", 4, 0, []),
    ]
    assert all(s.backlog_exact and not s.lost and not s.blocked for s in found.subscriptions)
