from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from danube_common.cluster.records import Topic
from danube_common.model.position import position_of
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.wire.owner.sessions import Detach
from danube_common.wire.owner.topics import DescribeTopic, SubscriptionDetail
from danube_harness.services.fake_archive import FakeArchive, open_fake_archive
from danube_harness.services.owner_harness import PATIENCE_S, SHARED, Gateway, OwnerHarness
from danube_topic_owner.catchup import expirer, history_feed

UNTIL_ACK = Strategy(ReliableOptions(storage=StorageBackend.DISK, retention=Retention.UNTIL_ACK))


@pytest.fixture
async def fake_archive(harness: OwnerHarness) -> AsyncIterator[FakeArchive]:
    async with open_fake_archive(harness) as fake_archive:
        yield fake_archive


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_feed, "RETRY_WAIT_MAX_S", 0.2)
    monkeypatch.setattr(expirer, "RETRY_WAIT_S", 0.01)
    monkeypatch.setattr(expirer, "MISSING_DOUBT_S", 0.05)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - there is no event for what an owner tells
            await asyncio.sleep(0.01)


async def until_told(logs: Sequence[Mapping[str, Any]], count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(lost_lines(logs)) < count:  # noqa: ASYNC110 - log lines set no event
            await asyncio.sleep(0.01)


async def described(harness: OwnerHarness, topic: Topic, subscription: str) -> SubscriptionDetail:
    found = await harness.ask(DescribeTopic(topic.name))
    return next(each for each in found.subscriptions if each.name == subscription)


async def is_blocked(harness: OwnerHarness, topic: Topic, reason: str) -> bool:
    return reason in (await described(harness, topic, "s")).blocked


async def test_what_was_purged_comes_from_segments_then_the_log_then_live(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic, other = await harness.topic("/default/t"), await harness.topic("/default/other")
    for number in range(6):
        await harness.publish(topic, f"{number}a", f"{number}b")
        await harness.publish(other, "x")
        await fake_archive.seal(shared=(topic.topic_id, other.topic_id) if number % 2 else ())
    await fake_archive.purge()
    await harness.publish(topic, "6a", "6b")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) == 14)
    await harness.publish(topic, "7a", "7b")
    await gateway.until(lambda: len(gateway.texts()) == 16)
    assert gateway.texts() == [f"{number}{half}" for number in range(8) for half in "ab"]
    assert gateway.positions() == sorted(set(gateway.positions()))


async def test_a_reader_that_fell_behind_the_floor_goes_on_where_it_was(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    session = await gateway.attach(consumer)
    await harness.publish(topic, "0", "1")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    await gateway.ack(topic.name, "s", gateway.positions()[:1])
    await harness.ask(Detach(consumer, session))
    for number in range(2, 9):
        await harness.publish(topic, str(number))
    await harness.settle()
    await fake_archive.seal()
    await fake_archive.purge()
    await harness.journaled()
    await harness.kill()
    await harness.own()
    gateway.deliveries.clear()
    await gateway.attach(consumer)
    await gateway.until(lambda: len(gateway.texts()) == 8)
    assert gateway.texts() == [str(number) for number in range(1, 9)]


async def test_an_owner_that_was_paused_while_the_log_was_purged_skips_nothing(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    owner = harness.owners[harness.epoch]
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "0")
    await gateway.until(lambda: gateway.texts() == ["0"])
    await owner.reader.close()
    for number in range(1, 5):
        await harness.publish(topic, str(number))
    await fake_archive.seal()
    await fake_archive.purge()
    await harness.publish(topic, "5")
    owner.reader.check()
    await gateway.until(lambda: len(gateway.texts()) == 6)
    assert gateway.texts() == ["0", "1", "2", "3", "4", "5"]


async def test_storage_that_is_down_delays_only_those_that_need_it(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    old, new = await harness.topic("/default/old"), await harness.topic("/default/new")
    await harness.publish(old, "o0")
    await fake_archive.seal()
    await fake_archive.purge()
    await harness.publish(new, "n0")
    await fake_archive.storage.stop()
    for topic in (old, new):
        await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await gateway.until(lambda: gateway.texts() == ["n0"])
    await until(lambda: is_blocked(harness, old, "cannot be read"))
    assert (await described(harness, new, "s")).blocked == ""
    await harness.publish(new, "n1")
    await gateway.until(lambda: gateway.texts() == ["n0", "n1"])
    await fake_archive.storage.start()
    await gateway.until(lambda: "o0" in gateway.texts())
    assert (await described(harness, old, "s")).blocked == ""


async def test_a_damaged_segment_stops_its_readers_until_it_is_whole(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await harness.publish(topic, "0")
    await harness.publish(topic, "1")
    entry = await fake_archive.seal()
    assert entry is not None
    await fake_archive.purge()
    await harness.publish(topic, "2")
    (record,) = entry.segments
    fake_archive.storage.damaged[record.key] = position_of(entry.first_sequence + 1, 0, 0)
    with capture_logs() as logs:
        await gateway.attach(await gateway.subscribe(topic.name, "s"))
        await gateway.until(lambda: gateway.texts() == ["0"])
        await until(lambda: is_blocked(harness, topic, "damaged"))
        await fake_archive.seal()  # any change of the manifest is a reason to try again
        await harness.settle()
    assert gateway.texts() == ["0"]
    assert [line["event"] for line in logs].count("subscription_waits_for_the_archive") == 1
    fake_archive.storage.damaged.clear()
    await fake_archive.mark_for_deletion(entry, lambda _: False)
    await harness.publish(topic, "3")
    await fake_archive.seal()
    await gateway.until(lambda: len(gateway.texts()) == 4)
    assert gateway.texts() == ["0", "1", "2", "3"]


# What is gone


def lost_lines(logs: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [
        (line["subscription"], line["lost_at_least"])
        for line in logs
        if line["event"] == "subscription_lost_expired_messages"
    ]


@pytest.mark.parametrize("together", [False, True])
async def test_a_subscription_says_once_how_many_expired_messages_it_lost_at_least(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway, together: bool
) -> None:
    topic, other = await harness.topic("/default/t"), await harness.topic("/default/other")
    everything = (topic.topic_id, other.topic_id) if together else ()
    reading = await gateway.subscribe(topic.name, "reading", SHARED)
    await gateway.subscribe(topic.name, "idle")
    await gateway.subscribe(other.name, "elsewhere")
    await gateway.attach(reading)
    await harness.publish(topic, "0", "1", "2")
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "reading", gateway.positions()[1:2])
    await harness.journaled()
    await harness.publish(topic, "3")
    await harness.publish(other, "x")
    await gateway.until(lambda: len(gateway.texts()) == 4)
    first = await fake_archive.seal(shared=everything)
    assert first is not None
    await harness.publish(topic, "4")
    await fake_archive.seal(shared=everything)
    await fake_archive.purge()
    with capture_logs() as logs:
        await fake_archive.mark_for_deletion(first, lambda record: record.topic_id in (0, topic.topic_id))
        await until_told(logs, 2)
        await harness.kill()
        await harness.own()
        await harness.settle()
    # What a shared segment had of a topic is not known: what was delivered or passed by is counted.
    assert sorted(lost_lines(logs)) == [("idle", 4), ("reading", 3)]
    assert (await described(harness, topic, "reading")).lost == 3
    gateway.deliveries.clear()
    await gateway.attach(await gateway.subscribe(topic.name, "idle"))
    await gateway.until(lambda: len(gateway.texts()) == 1)
    assert gateway.texts() == ["4"]


async def test_what_expired_while_nobody_owned_the_bundle_is_counted_by_what_is_left_of_it(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.subscribe(topic.name, "s")
    for number in range(5):
        await harness.publish(topic, str(number))
    await harness.journaled()
    await harness.kill()
    entry = await fake_archive.seal()
    assert entry is not None
    await fake_archive.purge()
    await fake_archive.mark_for_deletion(entry)
    await fake_archive.delete(entry)
    with capture_logs() as logs:
        await harness.own()
        await until_told(logs, 1)
    assert lost_lines(logs) == [("s", 5)]


async def test_a_hole_behind_what_is_retained_is_counted_when_it_is_reached(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    entries = []
    for text in ("0", "1", "2"):
        await harness.publish(topic, text)
        entry = await fake_archive.seal()
        assert entry is not None
        entries.append(entry)
    await gateway.subscribe(topic.name, "s")
    await fake_archive.purge()
    await fake_archive.mark_for_deletion(entries[1])
    await harness.settle()
    assert (await described(harness, topic, "s")).lost == 0
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await gateway.until(lambda: len(gateway.texts()) == 2)
    assert gateway.texts() == ["0", "2"]
    assert (await described(harness, topic, "s")).lost == 1
    before = (await described(harness, topic, "s")).mark_delete
    await gateway.ack(topic.name, "s", gateway.positions())
    await harness.journaled()
    after = await described(harness, topic, "s")
    assert before < gateway.positions()[0] < gateway.positions()[1] <= after.mark_delete
    assert after.backlog == 0


async def test_a_new_subscription_has_lost_nothing(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    entries = []
    for text in ("0", "1"):
        await harness.publish(topic, text)
        entry = await fake_archive.seal()
        assert entry is not None
        entries.append(entry)
    await fake_archive.purge()
    await fake_archive.mark_for_deletion(entries[0])
    await harness.settle()
    with capture_logs() as logs:
        await gateway.attach(await gateway.subscribe(topic.name, "s"))
        await gateway.until(lambda: gateway.texts() == ["1"])
    assert lost_lines(logs) == []


async def test_what_every_subscription_has_acknowledged_goes_without_a_word(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic, other = await harness.topic("/default/t", UNTIL_ACK), await harness.topic("/default/o", UNTIL_ACK)
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.subscribe(other.name, "quiet")
    session = await gateway.attach(consumer)
    await harness.publish(topic, "0", "1")
    await gateway.until(lambda: len(gateway.texts()) == 2)
    await gateway.ack(topic.name, "s", gateway.positions())
    await harness.journaled()
    entry = await fake_archive.seal(shared=(topic.topic_id, other.topic_id))
    assert entry is not None
    await harness.ask(Detach(consumer, session))
    await harness.publish(topic, "2")
    await fake_archive.purge()
    with capture_logs() as logs:
        await fake_archive.mark_for_deletion(entry)
        await harness.settle()
        await gateway.attach(consumer)
        await gateway.until(lambda: len(gateway.texts()) == 3)
    assert lost_lines(logs) == []
    assert gateway.texts() == ["0", "1", "2"]
