from __future__ import annotations

import asyncio
from typing import cast

import pytest

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Layout, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import AlreadyExists, MetadataUnavailable
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import Strategy
from danube_gateway.publish.schema_evolution import SchemaEvolution
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata

NAME = TopicName.parse("/default/t")
BYTES = Schema("s", SchemaKind.BYTES)


async def test_topics_that_were_seen_are_found_while_the_store_is_away() -> None:
    store = MemoryMetadata()
    await store.put(keys.LAYOUT, encode_record(Layout(1, 1)))
    await Namespaces(store).create("default")
    topics = Topics(store, MemoryLog(), now_ms=lambda: 0)
    parts = [await topics.create(NAME.partition(number), BYTES, Strategy()) for number in (10, 2)]
    catalogue = await Catalogue.open(store)
    evolution = cast("SchemaEvolution", None)  # no topic has a JSON schema
    resolver = TopicResolver(topics, catalogue, evolution)
    store.reachable = False
    assert await resolver.partitions(NAME) == [parts[1], parts[0]]
    assert await resolver.partitions(NAME.partition(2)) == [parts[1]]
    assert await resolver.find_or_create(NAME.partition(2), BYTES, Strategy()) == parts[1]
    with pytest.raises(MetadataUnavailable):
        await resolver.partitions(TopicName.parse("/default/unknown"))
    store.reachable = True
    assert await resolver.partitions(TopicName.parse("/default/unknown")) == []
    await catalogue.close()


async def test_of_a_topic_and_its_partitions_that_are_created_at_once_one_kind_stays_at_most() -> None:
    for turns in range(8):
        store = MemoryMetadata()
        await store.put(keys.LAYOUT, encode_record(Layout(1, 1)))
        await Namespaces(store).create("default")
        topics = Topics(store, MemoryLog(), now_ms=lambda: 0)

        async def later(name: TopicName, waits: int, topics: Topics = topics) -> bool:
            for _ in range(waits):
                await asyncio.sleep(0)
            try:
                await topics.create(name, BYTES, Strategy())
            except AlreadyExists:
                return False
            return True

        names = [NAME, NAME.partition(0)]
        created = await asyncio.gather(*(later(name, n * turns) for n, name in enumerate(names)))
        found = [await topics.get(name) is not None for name in names]
        assert found == created
        assert sum(found) <= 1
