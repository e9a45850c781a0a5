from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Claim, Instance, Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import (
    AlreadyExists,
    InvalidInput,
    NotConfigured,
    NotFound,
    Refused,
    Unavailable,
)
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.policies import Policies, PolicyOverrides
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata

NAME = TopicName.parse("/default/tópico")
BYTES = Schema("s", SchemaKind.BYTES)
BUNDLE = Bundle.parse("f0")


class Scene:
    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.log = MemoryLog()
        self.topics = Topics(self.store, self.log, now_ms=lambda: 5)
        self.namespaces = Namespaces(self.store)
        self.catalogue: Catalogue

    async def seen(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.store.put(keys.LAYOUT, encode_record(Layout(2, 2)))
    await scene.namespaces.create("default")
    scene.catalogue = await Catalogue.open(scene.store)
    yield scene
    await scene.catalogue.close()


async def test_a_topic_is_found_before_the_view_has_it_and_seen_after(scene: Scene) -> None:
    topic = await scene.topics.create(NAME, BYTES, Strategy())
    assert await scene.catalogue.find_topic(NAME) == topic
    await scene.seen()
    assert scene.catalogue.topic(str(NAME)) == topic
    assert scene.catalogue.topic_by_id(topic.topic_id) == topic
    assert await scene.catalogue.find_topic(TopicName.parse("/default/no")) is None


async def test_a_view_opened_later_knows_the_same(scene: Scene) -> None:
    topic = await scene.topics.create(NAME, BYTES, Strategy())
    await scene.topics.set_policies(NAME, PolicyOverrides(max_publish_rate=3))
    later = await Catalogue.open(scene.store)
    assert later.topic(str(NAME)) == topic
    assert later.policies(NAME).max_publish_rate == 3
    assert later.layout == Layout(2, 2)
    await later.close()


async def test_a_topic_that_was_deleted_or_made_again_is_told_once(scene: Scene) -> None:
    gone: list[Topic] = []
    scene.catalogue.on_topic_gone(gone.append)
    first = await scene.topics.create(NAME, BYTES, Strategy())
    await scene.seen()
    assert await scene.topics.delete(NAME) == [first]
    second = await scene.topics.create(NAME, BYTES, Strategy())
    await scene.seen()
    assert gone == [first]
    assert second.topic_id != first.topic_id
    assert scene.catalogue.topic_by_id(first.topic_id) is None
    assert scene.catalogue.topic(str(NAME)) == second
    await scene.topics.delete(NAME)
    await scene.seen()
    assert gone == [first, second]
    assert scene.catalogue.topic_count(second.home) == 0


async def test_policies_in_force_follow_every_level(scene: Scene) -> None:
    await scene.topics.create(NAME, BYTES, Strategy())
    await scene.seen()
    assert scene.catalogue.policies(NAME) == Policies()
    broker = Policies(max_publish_rate=1, max_dispatch_rate=1, max_message_size=1)
    revisions = [scene.catalogue.limits_revision]
    await scene.store.put(keys.BROKER_POLICIES, encode_record(broker))
    await scene.seen()
    revisions.append(scene.catalogue.limits_revision)
    await scene.namespaces.set_policies("default", PolicyOverrides(max_publish_rate=2, max_dispatch_rate=2))
    await scene.seen()
    revisions.append(scene.catalogue.limits_revision)
    await scene.topics.set_policies(NAME, PolicyOverrides(max_publish_rate=3))
    await scene.seen()
    revisions.append(scene.catalogue.limits_revision)
    assert len(set(revisions)) == 4, "each change is to be seen"
    in_force = scene.catalogue.policies(NAME)
    assert (in_force.max_publish_rate, in_force.max_dispatch_rate, in_force.max_message_size) == (3, 2, 1)
    await scene.topics.delete(NAME)
    await scene.topics.create(NAME, BYTES, Strategy())
    await scene.seen()
    assert scene.catalogue.policies(NAME).max_publish_rate == 2


async def test_owners_and_instances_are_followed(scene: Scene) -> None:
    heard: list[tuple[Bundle, int]] = []
    scene.catalogue.on_owner(lambda bundle, epoch: heard.append((bundle, epoch)))
    assert scene.catalogue.epoch(BUNDLE) is None
    first = await scene.store.put(keys.owner_key(BUNDLE), encode_record(Claim("a", "1")))
    second = await scene.store.put(keys.owner_key(BUNDLE), encode_record(Claim("b", "2")))
    instance = Instance("7", "gateway", "http://x")
    await scene.store.put(keys.instance_key("7"), encode_record(instance))
    await scene.seen()
    assert heard[-1] == (BUNDLE, second)
    assert second > first
    assert (scene.catalogue.epoch(BUNDLE), scene.catalogue.owner(BUNDLE)) == (second, "b")
    assert scene.catalogue.instances("gateway") == [instance]
    assert (scene.catalogue.instance_count("gateway"), scene.catalogue.instance_count("admin")) == (1, 0)
    assert scene.catalogue.instances("admin") == []
    await scene.store.delete(keys.instance_key("7"))
    await scene.store.delete(keys.owner_key(BUNDLE))
    await scene.seen()
    assert scene.catalogue.instances("gateway") == []
    assert scene.catalogue.epoch(BUNDLE) is None


async def test_partitions_are_found_by_their_number_and_a_topic_by_itself(scene: Scene) -> None:
    for number in (10, 2, 0):
        await scene.topics.create(NAME.partition(number), BYTES, Strategy())
    await scene.topics.create(TopicName.parse("/default/tópico2-part-0"), BYTES, Strategy())
    names = [topic.name for topic in await scene.topics.partitions(NAME)]
    assert names == [str(NAME.partition(number)) for number in (0, 2, 10)]
    assert [t.name for t in await scene.topics.partitions(NAME.partition(2))] == [str(NAME.partition(2))]
    assert await scene.topics.partitions(TopicName.parse("/default/no")) == []


async def test_a_topic_cannot_be_made_twice_or_without_its_namespace_or_out_of_range(
    scene: Scene,
) -> None:
    await scene.topics.create(NAME, BYTES, Strategy())
    with pytest.raises(AlreadyExists):
        await scene.topics.create(NAME, BYTES, Strategy())
    with pytest.raises(NotFound):
        await scene.topics.create(TopicName.parse("/nowhere/t"), BYTES, Strategy())
    too_large = Strategy(ReliableOptions(segment_size_mb=1 << 30))
    with pytest.raises(InvalidInput):
        await scene.topics.create(TopicName.parse("/default/t"), BYTES, too_large)
    with pytest.raises(NotFound):
        await scene.topics.delete(TopicName.parse("/default/t"))


async def test_a_topic_lives_in_s3_if_some_storage_instance_can_or_none_is_there_to_say(
    scene: Scene,
) -> None:
    def name(number: int) -> TopicName:
        return TopicName.parse(f"/default/s{number}")

    async def present(number: int, *backends: str) -> None:
        instance = Instance(str(number), "storage", "", backends=backends)
        await scene.store.put(keys.instance_key(instance.instance_id), encode_record(instance))

    in_s3 = Strategy(ReliableOptions(storage=StorageBackend.S3))
    await scene.topics.create(name(1), BYTES, in_s3)
    await present(1, "disk")
    with pytest.raises(NotConfigured, match="S3"):
        await scene.topics.create(name(2), BYTES, in_s3)
    await scene.topics.create(name(3), BYTES, Strategy(ReliableOptions(storage=StorageBackend.DISK)))
    await present(2, "disk", "s3")
    await scene.topics.create(name(2), BYTES, in_s3)


async def test_a_topic_needs_a_layout() -> None:
    scene = Scene()
    await scene.namespaces.create("default")
    with pytest.raises(Unavailable):
        await scene.topics.create(NAME, BYTES, Strategy())


async def test_a_new_topic_begins_behind_what_its_log_holds(scene: Scene) -> None:
    topic = await scene.topics.create(NAME, BYTES, Strategy(ReliableOptions()))
    await scene.log.append(topic.home, b"frame", frame_id="1", timeout_s=1)
    await scene.topics.delete(NAME)
    again = await scene.topics.create(NAME, BYTES, Strategy(ReliableOptions()))
    assert (topic.log_floor, again.log_floor) == (0, 1)


async def test_a_namespace_with_topics_stays(scene: Scene) -> None:
    await scene.topics.create(NAME, BYTES, Strategy())
    with pytest.raises(Refused):
        await scene.namespaces.delete("default")
    await scene.topics.delete(NAME)
    await scene.namespaces.delete("default")
    with pytest.raises(NotFound):
        await scene.namespaces.delete("default")
    with pytest.raises(NotFound):
        await scene.namespaces.get("default")


async def test_a_namespace_is_made_once(scene: Scene) -> None:
    with pytest.raises(AlreadyExists):
        await scene.namespaces.create("default")
    await scene.namespaces.ensure("default")
    await scene.namespaces.ensure("ñ")
    assert await scene.namespaces.names() == ["default", "ñ"]
