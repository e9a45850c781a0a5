"""Topics in the metadata store: creation, lookup, partitions, policies, deletion."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from danube_common.cluster import keys
from danube_common.cluster.partitioning import (
    PartitionWish,
    check_partitions,
    counted,
    existing_topics,
    partitioned,
    parts_of,
)
from danube_common.cluster.records import (
    Instance,
    Layout,
    Namespace,
    PartitionedTopic,
    Topic,
    decode_definition,
    decode_record,
    encode_record,
    read_record,
    read_records,
)
from danube_common.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotConfigured,
    NotFound,
    Refused,
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
    """Topics of one namespace that can be created, with the bundle of each.

    ``wish`` is set if they are partitions, all of one topic.
    """

    bundles: Mapping[TopicName, Bundle]
    schema: Schema
    strategy: Strategy
    wish: PartitionWish | None = None


class Topics:
    """Reads and changes topics in the metadata store itself."""

    def __init__(self, store: MetadataStore, log: BundleLog, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._now_ms = now_ms

    async def create(
        self, name: TopicName, schema: Schema, strategy: Strategy, producer: str | None = None
    ) -> Topic:
        """Create one topic or partition, for a producer or an operator. Raises as `plan` and `write` do."""
        (topic,) = await self.write(await self.plan(name, schema, strategy, producer))
        return topic

    async def plan(
        self, name: TopicName, schema: Schema, strategy: Strategy, producer: str | None = None
    ) -> TopicPlan:
        """Check what one topic or one partition needs, and choose its bundle; nothing is written.

        Raises:
            AlreadyExists: it exists; or its name is a partitioned topic, or its base is a plain one.
            InvalidInput: the schema or the options cannot be enforced, or the other partitions have others.
            NotConfigured: no storage instance has the topic's backend.
            NotFound: the namespace does not exist.
            PartitionsDiffer: it is a partition that this producer may not add.
            Unavailable: the cluster has no layout yet, or the store does not answer.
        """
        if (base := name.partition_of) is None:
            return await self._plan([name], schema, strategy, None)
        wish = PartitionWish(base, [name.partition_number or 0], schema, strategy, producer)
        return await self._plan([name], schema, strategy, wish)

    async def plan_partitions(
        self, base: TopicName, numbers: Sequence[int], schema: Schema, strategy: Strategy
    ) -> TopicPlan:
        """Plan partitions for an operator. Raises as `plan` does."""
        names = [TopicName.parse(str(base.partition(number))) for number in numbers]
        return await self._plan(names, schema, strategy, PartitionWish(base, numbers, schema, strategy))

    async def plan_growth(self, base: TopicName, partitions: int) -> TopicPlan:
        """Plan what a partitioned topic lacks of a number of partitions, for an operator.

        Raises as `plan` does, NotFound if the topic is not partitioned, InvalidInput if it has more.
        """
        if (present := await self.partitioned(base)) is None:
            if await self.get(base) is not None:
                raise InvalidInput(f"topic {base} is not partitioned, and stays so")
            raise NotFound(f"topic {base} does not exist")
        if partitions < present.partitions:
            raise InvalidInput(f"topic {base} has {counted(present.partitions)}, and none can be taken away")
        there = {part.topic_name.partition_number for part in await self.partitions(base)}
        missing = [number for number in range(partitions) if number not in there]
        if not missing:
            raise AlreadyExists(f"topic {base} has {counted(present.partitions)} already")
        return await self.plan_partitions(base, missing, present.schema, present.strategy)

    async def _plan(
        self, names: Sequence[TopicName], schema: Schema, strategy: Strategy, wish: PartitionWish | None
    ) -> TopicPlan:
        check_schema(schema)
        if strategy.reliable is not None:
            check_options(strategy.reliable)
        await self.check_namespace(names[0].namespace)
        if wish is None:
            await self._check_new(names[0])
        else:
            check_partitions(wish.base, wish.numbers)
            await self._check_none_exists(wish.base, names)
            partitioned(await self._definition(wish.base), wish, new_id=0, now_ms=self._now_ms())
        layout = await self._layout()
        await self._check_backend(strategy)
        return TopicPlan({name: place(name, strategy, layout) for name in names}, schema, strategy, wish)

    async def write(self, plan: TopicPlan) -> list[Topic]:
        """Create the planned topics, many at one time.

        If another process creates some of them at the same moment, the others stay.

        Raises:
            AlreadyExists: a topic exists, and was not changed; or the name became a plain topic's, or that of
                a partitioned one.
            NotFound: the namespace was deleted meanwhile, or the partitioned topic.
            PartitionsDiffer: the partitions may not be added by this producer.
            Unavailable: a store does not answer.
        """
        floors = {bundle: await self._floor(bundle) for bundle in sorted(set(plan.bundles.values()))}
        base = await self._claim(plan.wish) if plan.wish is not None else None
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
                base.topic_id if base is not None else 0,
            )
            async with slots:
                await self._put_new(topic)
            return topic

        topics = await _all(write(name, bundle) for name, bundle in plan.bundles.items())
        # `Namespaces.delete` looks for topics once more after it has deleted: one of the two sees the other.
        try:
            await self.check_namespace(next(iter(plan.bundles)).namespace)
        except NotFound:
            await _all(self._store.delete(keys.topic_key(name)) for name in plan.bundles)
            if base is not None:
                await self._store.delete(keys.topic_key(base.topic_name))
            raise
        if base is not None and not await self._is_present(base):
            raise NotFound(f"topic {base.name} was deleted meanwhile")
        return topics

    async def _claim(self, wish: PartitionWish) -> PartitionedTopic:
        """Make the name of ``wish`` a partitioned topic with these partitions, by a compare-and-set."""
        claimed: PartitionedTopic | None = None
        new_id = new_topic_id()

        def change(value: bytes | None) -> bytes | None:
            nonlocal claimed
            present = decode_definition(value) if value is not None else None
            claimed = partitioned(present, wish, new_id=new_id, now_ms=self._now_ms())
            return encode_record(claimed) if claimed != present else None

        await rewrite(self._store, keys.topic_key(wish.base), change)
        if claimed is None:
            raise AssertionError("nothing was claimed")
        return claimed

    async def _put_new(self, topic: Topic) -> None:
        """Store a new topic; what a deleted partitioned topic left under its name is replaced."""
        key = keys.topic_key(topic.topic_name)
        revision = 0
        while True:
            try:
                await self._store.put(key, encode_record(topic), expected_revision=revision)
            except Conflict:
                if (entry := await self._store.get(key)) is None:
                    revision = 0
                    continue
            else:
                return
            present = decode_definition(entry.value)
            if isinstance(present, PartitionedTopic):
                raise AlreadyExists(_taken(present))
            base = topic.topic_name.partition_of
            current = await self.partitioned(base) if topic.partitioned_id and base is not None else None
            if current is not None and current.topic_id != topic.partitioned_id:
                raise NotFound(f"topic {base} was deleted meanwhile")
            if present.partitioned_id in (0, topic.partitioned_id) or revision == entry.revision:
                raise AlreadyExists(f"topic {topic.name} exists already")
            revision = entry.revision

    async def _check_new(self, name: TopicName) -> None:
        """Raises AlreadyExists."""
        present = await self._definition(name)
        if isinstance(present, PartitionedTopic):
            raise AlreadyExists(_taken(present))
        if present is not None:
            raise AlreadyExists(f"topic {name} exists already")

    async def _check_none_exists(self, base: TopicName, names: Sequence[TopicName]) -> None:
        """Raises AlreadyExists if one of the partitions does."""
        if len(names) == 1:
            existing = names if await self.get(names[0]) is not None else []
        else:
            present = {part.name for part in await self.partitions(base)}
            existing = [name for name in names if str(name) in present]
        if existing:
            raise AlreadyExists(f"topic {existing[0]} exists already")

    async def check_namespace(self, namespace: str) -> None:
        """Raises NotFound if there is no such namespace."""
        if await self._store.get(keys.namespace_key(namespace)) is None:
            raise NotFound(f"namespace {namespace!r} does not exist")

    async def _floor(self, bundle: Bundle) -> int:
        await self._log.open(bundle)
        return (await self._log.bounds(bundle)).last_sequence

    async def get(self, name: TopicName) -> Topic | None:
        """Return a plain topic or a partition, or None."""
        found = await self._definition(name)
        if not isinstance(found, Topic):
            return None
        if found.partitioned_id and (base := name.partition_of) is not None:
            of = await self.partitioned(base)
            return found if of is not None and of.topic_id == found.partitioned_id else None
        return found

    async def partitioned(self, name: TopicName) -> PartitionedTopic | None:
        """Return a partitioned topic, or None."""
        found = await self._definition(name)
        return found if isinstance(found, PartitionedTopic) else None

    async def _definition(self, name: TopicName) -> Topic | PartitionedTopic | None:
        entry = await self._store.get(keys.topic_key(name))
        return decode_definition(entry.value) if entry else None

    async def _is_present(self, topic: PartitionedTopic) -> bool:
        present = await self.partitioned(topic.topic_name)
        return present is not None and present.topic_id == topic.topic_id

    async def in_namespace(self, namespace: str) -> list[Topic]:
        """Return the topics of a namespace, partitions too, sorted by name; an unknown namespace has none."""
        return (await self.listed(namespace))[0]

    async def listed(self, namespace: str) -> tuple[list[Topic], list[PartitionedTopic]]:
        """Return the topics of a namespace, partitions too, and its partitioned topics, sorted by name."""
        listing = await self._store.list(keys.namespace_topics_prefix(namespace))
        return existing_topics(listing.entries)

    async def partitions(self, name: TopicName) -> list[Topic]:
        """Return the topic itself if it exists, else its ``-part-N`` topics by number."""
        exact = await self.get(name)
        return [exact] if exact is not None else parts_of(name, await self.in_namespace(name.namespace))

    async def named(self, name: TopicName) -> list[Topic]:
        """Return the topic itself, or its partitions by number. Raises NotFound."""
        if not (found := await self.partitions(name)):
            raise NotFound(f"topic {name} does not exist")
        return found

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

    async def delete(self, name: TopicName) -> list[Topic]:
        """Delete a topic, or a partitioned topic with its partitions, and what was set for it; return them.

        Partitions are gone at once, by the deletion of one record; what they leave is deleted after that.

        Raises:
            Conflict: another process changed it at this moment.
            NotFound: there is none of this name.
            Refused: it is a partition.
        """
        entry = await self._store.get(keys.topic_key(name))
        definition = decode_definition(entry.value) if entry is not None else None
        if (
            entry is None
            or definition is None
            or (isinstance(definition, Topic) and not await self.get(name))
        ):
            raise await self._not_found(name)
        deleted = [definition] if isinstance(definition, Topic) else await self.partitions(name)
        if isinstance(definition, Topic) and definition.partitioned_id:
            raise Refused(f"{name} is a partition and is deleted with the others: delete {name.partition_of}")
        await self._store.delete(entry.key, expected_revision=entry.revision)
        left = {name, *(topic.topic_name for topic in deleted)}
        slots = asyncio.Semaphore(WRITES_AT_ONCE_MAX)

        async def sweep(one: TopicName) -> None:
            async with slots:
                await self._store.delete(keys.topic_policy_key(one))
                await self._store.delete(keys.topic_schema_key(one))
                if one != name:
                    await self._sweep_partition(one)

        await _all(sweep(one) for one in left)
        return deleted

    async def _sweep_partition(self, name: TopicName) -> None:
        """Delete the record of a partition, unless it was created again meanwhile."""
        entry = await self._store.get(keys.topic_key(name))
        if entry is not None and await self.get(name) is None:
            try:
                await self._store.delete(entry.key, expected_revision=entry.revision)
            except Conflict:
                return

    async def policies(self, name: TopicName) -> tuple[PolicyOverrides, PolicyOverrides]:
        """Return what the namespace sets and what the topic sets. Raises NotFound for an unknown topic."""
        await self._policy_holder(name)
        namespace = await read_record(self._store, keys.namespace_key(name.namespace), Namespace)
        own = await self._overrides(name)
        if (base := name.partition_of) is not None:
            own = own.over(await self._overrides(base))
        return (namespace.policies if namespace else PolicyOverrides(), own)

    async def _overrides(self, name: TopicName) -> PolicyOverrides:
        found = await read_record(self._store, keys.topic_policy_key(name), PolicyOverrides)
        return found or PolicyOverrides()

    async def _policy_holder(self, name: TopicName) -> Topic | PartitionedTopic:
        """Return the topic or partitioned topic of a name. Raises NotFound."""
        found = await self.get(name) or await self.partitioned(name)
        if found is None:
            raise NotFound(f"topic {name} does not exist")
        return found

    async def set_policies(self, name: TopicName, changes: PolicyOverrides, *, clear: bool = False) -> None:
        """Set the policies in ``changes``; keep the others, or with ``clear`` unset them.

        Those of a partitioned topic hold for each partition.

        Raises InvalidInput, NotFound, MetadataUnavailable; Refused for a single partition.
        """
        check_overrides(changes)
        holder = await self._policy_holder(name)
        if isinstance(holder, Topic) and holder.partitioned_id:
            raise Refused(f"policies hold for all partitions of a topic: set them for {name.partition_of}")

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
        instances = await read_records(self._store, keys.REGISTER, Instance)
        storages = [instance for instance in instances if instance.kind == "storage"]
        if storages and not any(StorageBackend.S3 in instance.backends for instance in storages):
            raise NotConfigured("no storage instance has S3 configured (s3_bucket): no topic can live there")

    async def _layout(self) -> Layout:
        """Return the cluster's layout. Raises Unavailable until an admin instance has written it."""
        layout = await read_record(self._store, keys.LAYOUT, Layout)
        if layout is None:
            raise Unavailable("the cluster has no bundle layout yet: no admin service has started")
        return layout


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Wait until all have ended; return the results, or raise what the first one raised that failed."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def _taken(topic: PartitionedTopic) -> str:
    return f"topic {topic.name} exists already, in {counted(topic.partitions)}"


def place(name: TopicName, strategy: Strategy, layout: Layout) -> Bundle:
    """Choose the bundle of a new topic by its name; partitions of one topic go to consecutive bundles."""
    base, number = name.partition_of or name, name.partition_number or 0
    count = layout.count(strategy.family)
    return Bundle(strategy.family, (zlib.crc32(str(base).encode()) + number) % count)
