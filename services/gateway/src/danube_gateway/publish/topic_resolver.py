"""Finds topics, and creates a missing topic for a producer."""

from __future__ import annotations

import asyncio
from typing import Final

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import AlreadyExists, InvalidInput, MetadataUnavailable, NotFound
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema
from danube_common.model.strategy import Strategy

STORE_TIMEOUT_S: Final = 1.0
"""After this wait the gateway answers from its own view of the cluster."""


class TopicDeleted(NotFound):
    """The topic that a producer had was deleted, and the producer may not create it again."""


class TopicResolver:
    """Finds topics in this gateway's view of the cluster, then in the metadata store."""

    def __init__(self, topics: Topics, catalogue: Catalogue) -> None:
        self._topics = topics
        self._catalogue = catalogue

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

    async def find_or_create(
        self, name: TopicName, schema: Schema | None, strategy: Strategy | None, *, may_create: bool = True
    ) -> Topic:
        """Return the topic that a producer asks for, and create it if it is missing and ``may_create``.

        Raises:
            InvalidInput: the topic exists with another schema or strategy, or is missing and one of
                the two was not given; or partitions of it exist, or the topic of which it would be a
                partition.
            NotFound: the topic and its namespace are missing.
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
                return await self._topics.create(name, schema, strategy)
            except AlreadyExists as error:
                topic = await self._topics.get(name)
                if topic is None:
                    raise InvalidInput(str(error)) from None
        check_fits(topic, schema, strategy)
        return topic

    async def create_partitions(
        self, name: TopicName, count: int, schema: Schema, strategy: Strategy
    ) -> list[Topic]:
        """Create a topic of partitions. Raises as `Topics.plan_partitions` and `Topics.write` do."""
        plan = await self._topics.plan_partitions(name, range(count), schema, strategy)
        return await self._topics.write(plan)


def check_fits(topic: Topic, schema: Schema | None, strategy: Strategy | None) -> None:
    """Raise InvalidInput if the topic differs from what a producer asks for."""
    difference = None
    if schema is not None:
        difference = topic.schema.differs_from(schema)
    if difference is None and strategy is not None:
        difference = topic.strategy.differs_from(strategy)
    if difference is not None:
        raise InvalidInput(f"topic {topic.name} exists and differs from what was asked: {difference}")
