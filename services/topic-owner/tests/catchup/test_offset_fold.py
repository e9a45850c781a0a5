from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from danube_common.cluster import keys
from danube_common.model.bundle import Bundle
from danube_harness.services.fake_archive import FakeArchive, open_fake_archive
from danube_harness.services.owner_harness import IN_MEMORY, Gateway, OwnerHarness


@pytest.fixture
async def fake_archive(harness: OwnerHarness) -> AsyncIterator[FakeArchive]:
    async with open_fake_archive(harness) as fake_archive:
        yield fake_archive


async def all_offsets(gateway: Gateway, topic: str, messages: int) -> list[tuple[str, int]]:
    """Read a topic from its oldest message with a new subscription."""
    gateway.deliveries.clear()
    name = f"s{gateway.harness.epoch}"
    await gateway.attach(await gateway.subscribe(topic, name))
    await gateway.until(lambda: len(gateway.texts()) >= messages)
    return gateway.offsets()


def expected(first: int, end: int) -> list[tuple[str, int]]:
    return [(str(number), number) for number in range(first, end)]


async def test_offsets_count_on_through_segments_log_and_live_feed_whoever_owns_the_bundle(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    topic, other = [await harness.topic(f"/default/{name}") for name in ("t", "other")]
    sent = 0

    async def publish() -> None:
        nonlocal sent
        for count in (3, 1, 4):
            await harness.publish(other, "x", "y")
            await harness.publish(topic, *map(str, range(sent, sent + count)))
            sent += count

    await publish()
    await harness.own()
    assert await all_offsets(gateway, topic.name, sent) == expected(0, sent)
    await fake_archive.seal()
    await fake_archive.purge()
    await publish()
    await harness.kill()  # what it has not journaled is counted by the next one
    await publish()
    await harness.own()
    assert await all_offsets(gateway, topic.name, sent) == expected(0, sent)
    harness.owners[harness.epoch].archive_catchup.offset_fold.checkpoint()
    await harness.journaled()
    await harness.kill()
    await publish()
    await harness.own()
    await publish()
    assert await all_offsets(gateway, topic.name, sent) == expected(0, sent)


async def test_an_owner_without_a_journaled_count_begins_with_that_of_the_archive(
    harness: OwnerHarness, fake_archive: FakeArchive, gateway: Gateway
) -> None:
    """As after an upgrade from a version that did not count."""
    topic = await harness.topic("/default/t")
    await harness.own()
    await harness.publish(topic, "0", "1", "2")
    await fake_archive.seal()
    await fake_archive.purge()
    await harness.kill()
    await harness.publish(topic, "3")
    owner = await harness.own()
    assert owner.context.state.totals == {}
    assert await all_offsets(gateway, topic.name, 4) == expected(0, 4)


async def test_offsets_of_a_memory_topic_grow_on_when_its_log_begins_anew(harness: OwnerHarness) -> None:
    harness.bundle = Bundle.parse("m0")
    gateway = await harness.gateway("g")
    topic = await harness.topic("/default/t", IN_MEMORY)
    await harness.own()
    await harness.publish(topic, "0", "1")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await gateway.until(lambda: len(gateway.texts()) == 2)
    harness.owners[harness.epoch].archive_catchup.offset_fold.checkpoint()
    await harness.journaled()
    await harness.kill()
    harness.log.lose(harness.bundle)
    await harness.own()
    await harness.publish(topic, "2")
    assert await all_offsets(gateway, topic.name, 1) == expected(2, 3)


async def test_what_was_counted_of_deleted_topics_is_forgotten(harness: OwnerHarness) -> None:
    topics = [await harness.topic(f"/default/{number}") for number in range(3)]
    owner = await harness.own()
    for topic in topics:
        await harness.publish(topic, "x")
    await harness.settle()
    owner.archive_catchup.offset_fold.checkpoint()
    owner.drop_topic(topics[0])
    await harness.journaled()
    assert owner.context.state.totals == {topics[1].topic_id: 1, topics[2].topic_id: 1}
    await harness.kill()
    await harness.store.delete(keys.topic_key(topics[1].topic_name))
    await harness.catalogue.see_topics()
    owner = await harness.own()
    assert owner.context.state.totals == {topics[2].topic_id: 1}
