"""Finds topics, and creates a missing topic for a producer."""

from __future__ import annotations

import asyncio
from typing import Final

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import PartitionedTopic, Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import (
    AlreadyExists,
    InvalidInput,
    MetadataUnavailable,
    NotFound,
    PartitionsDiffer,
)
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind, check_schema
from danube_common.model.strategy import Strategy
from danube_gateway.publish.schema_evolution import SchemaEvolution

STORE_TIMEOUT_S: Final = 1.0
"""After this wait the gateway answers from its own view of the cluster."""

GROWTH_CHECK_S: Final = 0.1
"""Between two looks whether another client has created the partition."""
GROWTH_CHECKS_MAX: Final = 100


class TopicDeleted(NotFound):
    """The topic that a producer had was deleted, and the producer may not create it again."""


class TopicResolver:
    """Finds topics in this gateway's view of the cluster, then in the metadata store."""

    def __init__(self, topics: Topics, catalogue: Catalogue, evolution: SchemaEvolution) -> None:
        self._topics = topics
        self._catalogue = catalogue
        self._evolution = evolution

    async def find(self, name: TopicName) -> Topic | None:
        """Return the topic, or None. Raises InvalidName, MetadataUnavailable."""
        return await self._catalogue.find_topic(name)

    async def partitions(self, name: TopicName) -> list[Topic]:
        """List the topic or its partitions; from the local view while the store is away.

        Raises MetadataUnavailable.
        """
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await self._topics.partitions(name)
        except (MetadataUnavailable, TimeoutError) as error:
            if known := self._catalogue.partitions(name):
                return known
            raise MetadataUnavailable(f"whether {name} exists is not known now: {error}") from error

    async def listed(self, namespace: str) -> tuple[list[Topic], list[PartitionedTopic]]:
        """Return the topics of a namespace, partitions too, and its partitioned topics, sorted by name.

        Raises NotFound.
        """
        found = await self._topics.listed(namespace)
        if not any(found):
            await self._topics.check_namespace(namespace)
        return found

    async def find_or_create(
        self,
        name: TopicName,
        schema: Schema | None,
        strategy: Strategy | None,
        *,
        producer: str = "",
        may_create: bool = True,
    ) -> Topic:
        """Return the topic that a producer asks for, and create it if it is missing and ``may_create``.

        While another client may be adding partitions, one that is missing is waited for.

        Raises:
            InvalidInput: the topic exists with another strategy, or with a schema that is not compatible; or
                it is missing and one of the two was not given; or partitions of it exist, or the topic of
                which it would be a partition.
            NotFound: the topic and its namespace are missing.
            PartitionsDiffer: it is a partition that this producer may not add.
            TopicDeleted: the topic is missing and must not be created.
        """
        topic = await self.find(name)
        if topic is None:
            if not may_create:
                raise TopicDeleted(
                    f"topic {name} was deleted; an operator can create it again, or a new connection"
                )
            if schema is None:
                raise InvalidInput(f"topic {name} does not exist, and no schema was given")
            if strategy is None:
                raise InvalidInput(f"topic {name} does not exist, and no dispatch strategy was given")
            try:
                return await self._create(name, schema, strategy, producer)
            except AlreadyExists as error:
                topic = await self._topics.get(name)
                if topic is None:
                    raise InvalidInput(str(error)) from None
        await self._fit(topic, schema, strategy)
        return topic

    async def schema_of(self, topic: Topic) -> Schema:
        """Return the schema that messages are checked with. Raises NotFound if every version was deleted."""
        return await self._evolution.schema_of(topic)

    async def _fit(self, topic: Topic, schema: Schema | None, strategy: Strategy | None) -> None:
        """Check what a producer asks for; a JSON schema may be a compatible one."""
        json = schema is not None and schema.kind is topic.schema.kind is SchemaKind.JSON
        if schema is None or not json or topic.schema.differs_from(schema) is None:
            check_fits(topic, schema, strategy)
            return
        check_fits(topic, None, strategy)
        check_schema(schema)
        await self._evolution.evolve(topic, schema)

    async def create_partitions(
        self, name: TopicName, count: int, schema: Schema, strategy: Strategy
    ) -> list[Topic]:
        """Create a topic of partitions. Raises as `Topics.plan_partitions` and `Topics.write` do."""
        plan = await self._topics.plan_partitions(name, range(count), schema, strategy)
        return await self._topics.write(plan)

    async def _create(self, name: TopicName, schema: Schema, strategy: Strategy, producer: str) -> Topic:
        for left in range(GROWTH_CHECKS_MAX, -1, -1):
            try:
                return await self._topics.create(name, schema, strategy, producer)
            except PartitionsDiffer as error:
                if error.settled or not left:
                    raise
            await asyncio.sleep(GROWTH_CHECK_S)
        raise AssertionError("the last check raises")


def check_fits(topic: Topic, schema: Schema | None, strategy: Strategy | None) -> None:
    """Raise InvalidInput if the topic differs from what a producer asks for."""
    difference = None
    if schema is not None:
        difference = topic.schema.differs_from(schema)
    if difference is None and strategy is not None:
        difference = topic.strategy.differs_from(strategy)
    if difference is not None:
        raise InvalidInput(f"topic {topic.name} exists and differs from what was asked: {difference}")
