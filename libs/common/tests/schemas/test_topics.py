from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import NotFound, Refused
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import Strategy
from danube_common.schemas.kinds import CompatibilityMode, ValidationPolicy
from danube_common.schemas.records import Subject
from danube_common.schemas.topics import TopicSchemas, TopicSchemaView
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata

ORDERS = Subject("orders", 1, CompatibilityMode.BACKWARD, 0)
BILLS = Subject("bills", 2, CompatibilityMode.BACKWARD, 0)


def topic(topic_id: int = 7, name: str = "/default/a") -> Topic:
    return Topic(name, topic_id, "f0", Schema("", SchemaKind.BYTES), Strategy(), 0, 0)


@pytest.fixture
def store() -> MemoryMetadata:
    return MemoryMetadata()


@pytest_asyncio.fixture
async def view(store: MemoryMetadata) -> AsyncIterator[TopicSchemaView]:
    view = await TopicSchemaView.open(store)
    yield view
    await view.close()


async def test_the_first_producer_sets_the_subject_and_the_next_one_must_have_the_same(
    store: MemoryMetadata,
) -> None:
    schemas = TopicSchemas(store)
    first = await schemas.bind(topic(), ORDERS)
    assert (first.subject, first.policy, first.payload_validation) == ("orders", ValidationPolicy.NONE, False)
    assert await schemas.bind(topic(), ORDERS) == first
    with pytest.raises(Refused, match="orders, not bills"):
        await schemas.bind(topic(), BILLS)


async def test_an_operator_sets_subject_and_policy_anew(store: MemoryMetadata) -> None:
    schemas = TopicSchemas(store)
    with pytest.raises(NotFound, match="no schema subject"):
        await schemas.set_policy(topic(), ValidationPolicy.WARN, payload_validation=False)
    await schemas.configure(topic(), ORDERS, ValidationPolicy.ENFORCE, payload_validation=True)
    await schemas.configure(topic(), BILLS, ValidationPolicy.WARN, payload_validation=True)
    await schemas.set_policy(topic(), ValidationPolicy.ENFORCE, payload_validation=False)
    found = await schemas.get(topic())
    assert found is not None
    assert (found.schema_id, found.policy, found.payload_validation) == (2, ValidationPolicy.ENFORCE, False)


async def test_a_schema_that_evolved_is_never_enforced_again_whatever_an_operator_sets(
    store: MemoryMetadata,
) -> None:
    schemas = TopicSchemas(store)
    await schemas.replace_own(topic(), ORDERS)
    evolved = await schemas.get(topic())
    assert evolved is not None
    assert (evolved.policy, evolved.payload_validation, evolved.replaces_own) == (
        ValidationPolicy.ENFORCE,
        True,
        True,
    )
    with pytest.raises(Refused, match="orders, not bills"):
        await schemas.replace_own(topic(), BILLS)
    await schemas.set_policy(topic(), ValidationPolicy.WARN, payload_validation=True)
    await schemas.replace_own(topic(), ORDERS)
    await schemas.configure(topic(), BILLS, ValidationPolicy.WARN, payload_validation=False)
    found = await schemas.get(topic())
    assert found is not None
    assert (found.subject, found.policy, found.replaces_own) == ("bills", ValidationPolicy.WARN, True)


async def test_a_topic_created_again_has_no_subject(store: MemoryMetadata, view: TopicSchemaView) -> None:
    schemas = TopicSchemas(store)
    await schemas.bind(topic(7), ORDERS)
    assert await schemas.get(topic(8)) is None
    assert (await schemas.bind(topic(8), BILLS)).subject == "bills"
    assert view.get(topic(9)) is None


async def test_a_deleted_topic_leaves_nothing_behind(store: MemoryMetadata) -> None:
    await Namespaces(store).create("default")
    await store.put(keys.LAYOUT, encode_record(Layout(1, 1)))
    topics = Topics(store, MemoryLog(), now_ms=lambda: 1)
    name = TopicName.parse("/default/a")
    made = await topics.create(name, Schema("", SchemaKind.BYTES), Strategy())
    await TopicSchemas(store).bind(made, ORDERS)
    await topics.delete(name)
    assert (await store.list("/schemas/topics/")).entries == ()


async def test_the_view_follows_the_store(store: MemoryMetadata, view: TopicSchemaView) -> None:
    schemas = TopicSchemas(store)
    await schemas.bind(topic(7), ORDERS)
    async with asyncio.timeout(10):
        while view.get(topic(7)) is None:  # noqa: ASYNC110 - the view has no event to wait for
            await asyncio.sleep(0.01)
        await schemas.bind(topic(8), ORDERS)
        while view.get(topic(7)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert view.get(topic(8)) is not None
