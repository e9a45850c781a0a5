"""A name is a plain topic or a partitioned one: the rule by itself, and under concurrent creators."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.partitioning import GROWTH_PAUSE_MS, PARTITIONS_MAX, PartitionWish, partitioned
from danube_common.cluster.records import Layout, PartitionedTopic, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PartitionsDiffer, Refused
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import Strategy
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata

BASE = TopicName.parse("/default/t")
BYTES = Schema("s", SchemaKind.BYTES)


async def new_topics() -> tuple[MemoryMetadata, Topics]:
    store = MemoryMetadata()
    await store.put(keys.LAYOUT, encode_record(Layout(2, 2)))
    await Namespaces(store).create("default")
    return store, Topics(store, MemoryLog(), now_ms=lambda: 0)


def asked(
    present: PartitionedTopic | None, producer: str | None, number: int, now_ms: int
) -> PartitionedTopic:
    wish = PartitionWish(BASE, [number], BYTES, Strategy(), producer)
    return partitioned(present, wish, new_id=1, now_ms=now_ms)


def test_the_client_that_creates_partitions_one_by_one_sets_their_number() -> None:
    topic = None
    for number in (0, 2, 1, 3):
        topic = asked(topic, f"orders-{number}", number, now_ms=0)
    assert topic is not None
    assert topic.partitions == 4


def test_a_producer_with_more_partitions_is_refused_with_both_numbers() -> None:
    topic = asked(asked(None, "orders-0", 0, 0), "orders-1", 1, 0)
    assert asked(topic, "other-1", 1, GROWTH_PAUSE_MS) == topic
    for now_ms, settled in ((GROWTH_PAUSE_MS - 1, False), (GROWTH_PAUSE_MS, True)):
        with pytest.raises(PartitionsDiffer, match=r"has 2 partitions, .* at least 3 does") as refusal:
            asked(topic, "other-2", 2, now_ms)
        assert refusal.value.settled is settled


def test_the_number_that_an_operator_has_set_is_changed_by_operators_only() -> None:
    for topic in (asked(None, None, 1, 0), asked(asked(None, "orders-0", 0, 0), None, 1, 0)):
        for producer in ("orders-2", "p"):
            with pytest.raises(PartitionsDiffer) as refusal:
                asked(topic, producer, 2, 0)
            assert refusal.value.settled
        assert asked(topic, None, 2, 0).partitions == 3


async def test_numbers_and_names_that_no_partition_can_have_are_refused() -> None:
    _store, topics = await new_topics()
    for name in (BASE.partition(PARTITIONS_MAX), BASE.partition(1).partition(0)):
        with pytest.raises(InvalidInput):
            await topics.create(name, BYTES, Strategy())


@dataclass(frozen=True)
class Creator:
    """One process that creates or deletes; it gives way ``waits`` times before it begins."""

    number: int | None
    deletes: bool
    waits: int


CREATORS = st.lists(
    st.builds(
        Creator,
        st.one_of(st.none(), st.integers(0, 2)),
        deletes=st.booleans(),
        waits=st.integers(0, 12),
    ),
    min_size=2,
    max_size=8,
)


@given(CREATORS)
async def test_of_concurrent_creators_a_name_is_never_both_plain_and_partitioned(
    creators: list[Creator],
) -> None:
    store, topics = await new_topics()
    view = await Catalogue.open(store)
    created: set[str] = set()
    deletions = 0

    async def run(creator: Creator) -> None:
        nonlocal deletions
        for _ in range(creator.waits):
            await asyncio.sleep(0)
        name = BASE if creator.number is None else BASE.partition(creator.number)
        try:
            if creator.deletes:
                await topics.delete(BASE)
                deletions += 1
            else:
                await topics.create(name, BYTES, Strategy())
                created.add(str(name))
        except (AlreadyExists, Conflict, NotFound, Refused):
            return

    async def watch() -> None:
        while True:
            shown = [topic.topic_name for topic in await topics.in_namespace("default")]
            assert not (BASE in shown and len(shown) > 1), shown
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(run(creator) for creator in creators))
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    left = {topic.name: topic for topic in await topics.in_namespace("default")}
    if not deletions:
        assert set(left) == created
    for name in (BASE, *(BASE.partition(number) for number in range(3))):
        assert await topics.get(name) == left.get(str(name))
    await view.see_topics()
    await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert {topic.name for topic in view.partitions(BASE)} == set(left)
    await view.close()


async def test_partitions_vanish_with_the_record_of_their_topic_and_do_not_come_back() -> None:
    store, topics = await new_topics()
    view, gone = await Catalogue.open(store), list[Topic]()
    view.on_topic_gone(gone.append)
    first = [await topics.create(BASE.partition(number), BYTES, Strategy()) for number in range(2)]
    await view.see_topics()
    # The process dies after it has deleted the topic's own record: the others are left.
    await store.delete(keys.topic_key(BASE))
    assert await topics.in_namespace("default") == []
    assert await topics.get(BASE.partition(0)) is None
    later = await Catalogue.open(store)
    assert await later.find_topic(BASE.partition(0)) is None
    assert later.topic(str(BASE.partition(0))) is None
    again = await topics.create(BASE.partition(1), BYTES, Strategy())
    assert [topic.topic_id for topic in await topics.partitions(BASE)] == [again.topic_id]
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(gone, key=lambda topic: topic.name) == first
    assert [topic.topic_id for topic in view.partitions(BASE)] == [again.topic_id]
    await view.close()
    await later.close()


async def test_a_view_that_opens_later_knows_partitions_though_their_keys_come_first() -> None:
    store, topics = await new_topics()
    parts = [await topics.create(BASE.partition(number), BYTES, Strategy()) for number in range(3)]
    view = await Catalogue.open(store)
    assert view.partitions(BASE) == parts
    assert [view.topic_by_id(part.topic_id) for part in parts] == parts
    await view.close()
