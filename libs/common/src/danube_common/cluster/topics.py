"""Topics in the metadata store: creation, lookup, partitions, policies, deletion."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from danube_common.cluster import keys
from danube_common.cluster.records import Instance, Layout, Namespace, Topic, decode_record, encode_record
from danube_common.errors import AlreadyExists, Conflict, NotConfigured, NotFound, Unavailable
from danube_common.log.port import BundleLog
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.ids import new_topic_id
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides, check_overrides
from danube_common.model.schema import Schema, check_schema
from danube_common.model.strategy import StorageBackend, Strategy, check_options

WRITES_AT_ONCE_MAX = 64
"""Topics of one request that are being written to the store at one time."""


class Topics:
    """Reads and changes topics in the metadata store itself."""

    def __init__(self, store: MetadataStore, log: BundleLog, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._now_ms = now_ms

    async def create(self, name: TopicName, schema: Schema, strategy: Strategy) -> Topic:
        """Create one topic (or one partition).

        Raises:
            InvalidInput: the schema or the options cannot be enforced.
            NotConfigured: no storage instance has the topic's backend.
            NotFound: the namespace does not exist.
            AlreadyExists: the topic exists; nothing was changed.
            Unavailable: the cluster has no layout yet, or a store does not answer.
        """
        (topic,) = await self._create_all(name.namespace, [name], schema, strategy)
        return topic

    async def create_partitions(
        self, name: TopicName, numbers: Iterable[int], schema: Schema, strategy: Strategy
    ) -> list[Topic]:
        """Create partitions of a topic concurrently; what they share is read once.

        Raises as `create` does; AlreadyExists also when the topic itself exists. What fails half way, because
        another creates some of them at the same moment, leaves the others there.
        """
        names = [TopicName.parse(str(name.partition(number))) for number in numbers]
        if await self.get(name) is not None:
            raise AlreadyExists(f"topic {name} exists already, and not in partitions")
        present = {topic.name for topic in await self.in_namespace(name.namespace)}
        if existing := [each for each in names if str(each) in present]:
            raise AlreadyExists(f"topic {existing[0]} exists already")
        return await self._create_all(name.namespace, names, schema, strategy)

    async def _create_all(
        self, namespace: str, names: Sequence[TopicName], schema: Schema, strategy: Strategy
    ) -> list[Topic]:
        check_schema(schema)
        if strategy.reliable is not None:
            check_options(strategy.reliable)
        if await self._store.get(keys.namespace_key(namespace)) is None:
            raise NotFound(f"namespace {namespace!r} does not exist")
        layout = await self.layout()
        await self._check_backend(strategy)
        bundles = {name: place(name, strategy, layout) for name in names}
        floors = {bundle: await self._floor(bundle) for bundle in sorted(set(bundles.values()))}
        topics = [
            Topic(str(name), new_topic_id(), str(bundle), schema, strategy, floors[bundle], self._now_ms())
            for name, bundle in bundles.items()
        ]
        room = asyncio.Semaphore(WRITES_AT_ONCE_MAX)

        async def write(name: TopicName, topic: Topic) -> None:
            async with room:
                try:
                    await self._store.put(keys.topic_key(name), encode_record(topic), expected_revision=0)
                except Conflict:
                    raise AlreadyExists(f"topic {name} exists already") from None

        await _all(write(name, topic) for name, topic in zip(names, topics, strict=True))
        # `Namespaces.delete` looks for topics once more after it has deleted: one of the two sees the other.
        if await self._store.get(keys.namespace_key(namespace)) is None:
            await _all(self._store.delete(keys.topic_key(name)) for name in names)
            raise NotFound(f"namespace {namespace!r} does not exist")
        return topics

    async def _floor(self, bundle: Bundle) -> int:
        await self._log.open(bundle)
        return (await self._log.bounds(bundle)).last_sequence

    async def get(self, name: TopicName) -> Topic | None:
        """Return a topic, or None."""
        entry = await self._store.get(keys.topic_key(name))
        return decode_record(Topic, entry.value) if entry else None

    async def in_namespace(self, namespace: str) -> list[Topic]:
        """Return the topics of a namespace, sorted by name; an unknown namespace has none."""
        listing = await self._store.list(keys.namespace_topics_prefix(namespace))
        topics = [decode_record(Topic, e.value) for e in listing.entries if e.key.endswith("/definition")]
        return sorted(topics, key=lambda topic: topic.name)

    async def partitions(self, name: TopicName) -> list[Topic]:
        """Return the topic itself if it exists, else its ``-part-N`` topics by number."""
        exact = await self.get(name)
        return [exact] if exact is not None else parts_of(name, await self.in_namespace(name.namespace))

    async def delete(self, name: TopicName) -> Topic:
        """Delete a topic and its policies, and return it. Raises NotFound, Conflict."""
        entry = await self._store.get(keys.topic_key(name))
        if entry is None:
            raise NotFound(f"topic {name} does not exist")
        await self._store.delete(entry.key, expected_revision=entry.revision)
        await self._store.delete(keys.topic_policy_key(name))
        return decode_record(Topic, entry.value)

    async def policies(self, name: TopicName) -> tuple[PolicyOverrides, PolicyOverrides]:
        """Return what the namespace sets and what the topic sets. Raises NotFound for an unknown topic."""
        if await self.get(name) is None:
            raise NotFound(f"topic {name} does not exist")
        namespace = await self._store.get(keys.namespace_key(name.namespace))
        own = await self._store.get(keys.topic_policy_key(name))
        return (
            decode_record(Namespace, namespace.value).policies if namespace else PolicyOverrides(),
            decode_record(PolicyOverrides, own.value) if own else PolicyOverrides(),
        )

    async def set_policies(self, name: TopicName, changes: PolicyOverrides, *, clear: bool = False) -> None:
        """Set the policies in ``changes``; keep the others, or with ``clear`` unset them.

        Raises InvalidInput, NotFound, Conflict.
        """
        check_overrides(changes)
        if await self.get(name) is None:
            raise NotFound(f"topic {name} does not exist")
        key = keys.topic_policy_key(name)
        entry = await self._store.get(key)
        present = decode_record(PolicyOverrides, entry.value) if entry else PolicyOverrides()
        revision = entry.revision if entry else 0
        merged = changes if clear else changes.over(present)
        await self._store.put(key, encode_record(merged), expected_revision=revision)

    async def _check_backend(self, strategy: Strategy) -> None:
        """Each storage instance has a disk, but S3 has to be set up.

        While none lives, nobody knows: the log keeps what the topic gets until one comes.
        """
        if strategy.reliable is None or strategy.reliable.storage is not StorageBackend.S3:
            return
        listing = await self._store.list(keys.REGISTER)
        instances = [decode_record(Instance, entry.value) for entry in listing.entries]
        storages = [instance for instance in instances if instance.kind == "storage"]
        if storages and not any(StorageBackend.S3 in instance.backends for instance in storages):
            raise NotConfigured("no storage instance has S3 configured (s3_bucket): no topic can live there")

    async def layout(self) -> Layout:
        """Return the cluster's layout. Raises Unavailable until an admin instance has written it."""
        entry = await self._store.get(keys.LAYOUT)
        if entry is None:
            raise Unavailable("the cluster has no bundle layout yet: no admin service has started")
        return decode_record(Layout, entry.value)


async def _all(works: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Until all have ended; raises what the first one raised that failed."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def parts_of(name: TopicName, topics: Iterable[Topic]) -> list[Topic]:
    """Return those of ``topics`` that are partitions of ``name``, by number."""
    parts = [topic for topic in topics if topic.topic_name.partition_of == name]
    return sorted(parts, key=lambda topic: topic.topic_name.partition_number or 0)


def place(name: TopicName, strategy: Strategy, layout: Layout) -> Bundle:
    """Choose the bundle of a new topic by its name; partitions of one topic go to consecutive bundles."""
    base, number = name.partition_of or name, name.partition_number or 0
    count = layout.count(strategy.family)
    return Bundle(strategy.family, (zlib.crc32(str(base).encode()) + number) % count)
