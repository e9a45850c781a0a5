"""Topics in the metadata store: creation, lookup, partitions, policies, deletion."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from danube_common.cluster import keys
from danube_common.cluster.records import Instance, Layout, Namespace, Topic, decode_record, encode_record
from danube_common.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    InvalidName,
    NotConfigured,
    NotFound,
    Unavailable,
)
from danube_common.log.port import BundleLog
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.bundle import Bundle
from danube_common.model.ids import new_topic_id
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides, check_overrides
from danube_common.model.schema import Schema, check_schema
from danube_common.model.strategy import StorageBackend, Strategy, check_options

WRITES_AT_ONCE_MAX = 64
"""Topics of one request that are being written to the store at one time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """Topics of one namespace that can be created, with the bundle of each."""

    bundles: Mapping[TopicName, Bundle]
    schema: Schema
    strategy: Strategy


class Topics:
    """Reads and changes topics in the metadata store itself."""

    def __init__(self, store: MetadataStore, log: BundleLog, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._now_ms = now_ms

    async def create(self, name: TopicName, schema: Schema, strategy: Strategy) -> Topic:
        """Create one topic (or one partition). Raises as `plan` and `write` do."""
        (topic,) = await self.write(await self.plan([name], schema, strategy))
        return topic

    async def plan(self, names: Sequence[TopicName], schema: Schema, strategy: Strategy) -> TopicPlan:
        """Check what topics of one namespace need, and choose their bundles; nothing is written.

        Raises:
            AlreadyExists: a topic was asked for that has partitions, or partitions of an existing one.
            InvalidInput: the schema or the options cannot be enforced, or differ from those of partition 0.
            NotConfigured: no storage instance has the topics' backend.
            NotFound: the namespace does not exist.
            Unavailable: the cluster has no layout yet, or the store does not answer.
        """
        check_schema(schema)
        if strategy.reliable is not None:
            check_options(strategy.reliable)
        await self._check_namespace(names[0].namespace)
        await self._check_kind(names)
        await self._check_siblings(names, schema, strategy)
        layout = await self._layout()
        await self._check_backend(strategy)
        return TopicPlan({name: place(name, strategy, layout) for name in names}, schema, strategy)

    async def plan_partitions(
        self, name: TopicName, numbers: Iterable[int], schema: Schema, strategy: Strategy
    ) -> TopicPlan:
        """Plan partitions of a topic. Raises as `plan` does, and AlreadyExists if one or the topic exists."""
        names = [TopicName.parse(str(name.partition(number))) for number in numbers]
        present = {topic.name for topic in await self.in_namespace(name.namespace)}
        if existing := [each for each in names if str(each) in present]:
            raise AlreadyExists(f"topic {existing[0]} exists already")
        return await self.plan(names, schema, strategy)

    async def write(self, plan: TopicPlan) -> list[Topic]:
        """Create the planned topics, many at one time.

        If another process creates some of them at the same moment, the others stay.

        Raises:
            AlreadyExists: a topic exists, and was not changed; or another process created its partitions, or
                the topic of which it is a partition, at the same moment: then it is gone again.
            NotFound: the namespace was deleted meanwhile.
            Unavailable: a store does not answer.
        """
        floors = {bundle: await self._floor(bundle) for bundle in sorted(set(plan.bundles.values()))}
        slots = asyncio.Semaphore(WRITES_AT_ONCE_MAX)

        async def write(name: TopicName, bundle: Bundle) -> Topic:
            topic = Topic(
                str(name),
                new_topic_id(),
                str(bundle),
                plan.schema,
                plan.strategy,
                floors[bundle],
                self._now_ms(),
            )
            async with slots:
                try:
                    await self._store.put(keys.topic_key(name), encode_record(topic), expected_revision=0)
                except Conflict:
                    raise AlreadyExists(f"topic {name} exists already") from None
            return topic

        topics = await _all(write(name, bundle) for name, bundle in plan.bundles.items())
        # `Namespaces.delete` looks for topics once more after it has deleted: one of the two sees the other.
        # So do the creators of a topic and of its partitions.
        try:
            await self._check_namespace(next(iter(plan.bundles)).namespace)
            await self._check_kind(plan.bundles)
        except (AlreadyExists, NotFound):
            await _all(self._store.delete(keys.topic_key(name)) for name in plan.bundles)
            raise
        return topics

    async def _check_kind(self, names: Iterable[TopicName]) -> None:
        """A name is one topic's or that of partitions. Raises AlreadyExists."""
        for base in {name.partition_of for name in names} - {None}:
            if base is not None and await self.get(base) is not None:
                raise AlreadyExists(f"topic {base} exists already, and not in partitions")
        for name in names:
            if name.partition_of is None and (part := await self._first_partition(name)) is not None:
                raise AlreadyExists(f"topic {name} exists already, in partitions such as {part.name}")

    async def _check_siblings(self, names: Iterable[TopicName], schema: Schema, strategy: Strategy) -> None:
        """Partitions of a topic have the schema and strategy of partition 0. Raises InvalidInput."""
        for base in {name.partition_of for name in names} - {None}:
            first = await self._first_partition(base) if base is not None else None
            if first is None:
                continue
            if difference := first.schema.differs_from(schema) or first.strategy.differs_from(strategy):
                raise InvalidInput(f"{first.name} differs from what was asked for another one: {difference}")

    async def _first_partition(self, base: TopicName) -> Topic | None:
        try:
            return await self.get(TopicName.parse(str(base.partition(0))))
        except InvalidName:
            return None  # the name would be too long

    async def _check_namespace(self, namespace: str) -> None:
        if await self._store.get(keys.namespace_key(namespace)) is None:
            raise NotFound(f"namespace {namespace!r} does not exist")

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

    async def require(self, name: TopicName) -> Topic:
        """Return the topic of exactly this name. Raises NotFound, which says if partitions have the name."""
        topic = await self.get(name)
        if topic is None:
            raise await self._not_found(name)
        return topic

    async def _not_found(self, name: TopicName) -> NotFound:
        text = f"topic {name} does not exist"
        parts = parts_of(name, await self.in_namespace(name.namespace))
        if parts:
            text = f"{text} by itself: it has partitions, such as {parts[0].name}; name one of them"
        return NotFound(text)

    async def delete(self, name: TopicName) -> Topic:
        """Delete a topic with its policies and schema subject; return it. Raises NotFound, Conflict."""
        entry = await self._store.get(keys.topic_key(name))
        if entry is None:
            raise await self._not_found(name)
        await self._store.delete(entry.key, expected_revision=entry.revision)
        await self._store.delete(keys.topic_policy_key(name))
        await self._store.delete(keys.topic_schema_key(name))
        return decode_record(Topic, entry.value)

    async def policies(self, name: TopicName) -> tuple[PolicyOverrides, PolicyOverrides]:
        """Return what the namespace sets and what the topic sets. Raises NotFound for an unknown topic."""
        await self.require(name)
        namespace = await self._store.get(keys.namespace_key(name.namespace))
        own = await self._store.get(keys.topic_policy_key(name))
        return (
            decode_record(Namespace, namespace.value).policies if namespace else PolicyOverrides(),
            decode_record(PolicyOverrides, own.value) if own else PolicyOverrides(),
        )

    async def set_policies(self, name: TopicName, changes: PolicyOverrides, *, clear: bool = False) -> None:
        """Set the policies in ``changes``; keep the others, or with ``clear`` unset them.

        Raises InvalidInput, NotFound, MetadataUnavailable.
        """
        check_overrides(changes)
        await self.require(name)

        def merged(value: bytes | None) -> bytes:
            present = decode_record(PolicyOverrides, value) if value is not None else PolicyOverrides()
            return encode_record(changes if clear else changes.over(present))

        await rewrite(self._store, keys.topic_policy_key(name), merged)

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

    async def _layout(self) -> Layout:
        """Return the cluster's layout. Raises Unavailable until an admin instance has written it."""
        entry = await self._store.get(keys.LAYOUT)
        if entry is None:
            raise Unavailable("the cluster has no bundle layout yet: no admin service has started")
        return decode_record(Layout, entry.value)


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Wait until all have ended; return the results, or raise what the first one raised that failed."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def parts_of(name: TopicName, topics: Iterable[Topic]) -> list[Topic]:
    """Return those of ``topics`` that are partitions of ``name``, by number."""
    parts = [topic for topic in topics if topic.topic_name.partition_of == name]
    return sorted(parts, key=lambda topic: topic.topic_name.partition_number or 0)


def place(name: TopicName, strategy: Strategy, layout: Layout) -> Bundle:
    """Choose the bundle of a new topic by its name; partitions of one topic go to consecutive bundles."""
    base, number = name.partition_of or name, name.partition_number or 0
    count = layout.count(strategy.family)
    return Bundle(strategy.family, (zlib.crc32(str(base).encode()) + number) % count)
