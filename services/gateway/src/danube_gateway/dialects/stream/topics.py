"""``danube.stream.v1.Streaming``: which topics a name stands for, and what they are."""

from __future__ import annotations

from typing import Final

from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, InvalidInput, NotFound, PartitionsDiffer
from danube_common.model.names import TopicName
from danube_common.model.schema import UNCHOSEN_SCHEMA, payload_check
from danube_common.model.strategy import StorageBackend
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_gateway.dialects.stream.model import default_strategy, schema_of, strategy_of
from danube_gateway.publish.topic_resolver import TopicResolver, check_fits
from danube_proto import danube_stream_pb2 as api

PARTITIONS_MAX: Final = 1000
"""Partitions of a new topic."""


class ProducerTopics:
    """Finds and creates the topics that producers open; new ones that name no storage get the default."""

    def __init__(
        self,
        resolver: TopicResolver,
        registry: SchemaRegistry,
        schemas: TopicSchemas,
        *,
        default_storage: StorageBackend,
    ) -> None:
        self._resolver = resolver
        self._registry = registry
        self._schemas = schemas
        self._default_storage = default_storage

    async def open(self, request: api.OpenProducer) -> list[Topic]:
        """Return the topic, or its partitions by number.

        Raises:
            InvalidInput: it exists and differs from what was asked, or cannot be created so.
            NotFound: it does not exist and must, or its namespace does not, or the schema's subject.
        """
        name = TopicName.parse(request.topic)
        if request.partitions > PARTITIONS_MAX:
            raise InvalidInput(f"partitions is at most {PARTITIONS_MAX}, not {request.partitions}")
        schema = strategy = None
        subject = request.schema.subject
        if subject and (request.schema.type or request.schema.definition):
            raise InvalidInput("schema: a subject has its type and definition in the registry")
        if request.HasField("schema") and not subject:
            schema = schema_of(request.schema)
        if request.HasField("dispatch"):
            strategy = strategy_of(request.dispatch, self._default_storage)
        registered = (await self._registry.resolve(subject)).subject if subject else None
        topics = await self._resolver.partitions(name)
        if not topics:
            if request.must_exist:
                raise NotFound(f"topic {name} does not exist")
            topics = await self._create(name, request)
        for topic in topics:
            if schema is UNCHOSEN_SCHEMA and not payload_check(topic.schema).takes_all:
                raise InvalidInput(f"topic {topic.name} exists: its schema type is {topic.schema.kind}")
            check_fits(topic, None if schema is UNCHOSEN_SCHEMA else schema, strategy)
        if request.partitions and (topics[0].name == str(name) or len(topics) != request.partitions):
            present = "is not partitioned" if topics[0].name == str(name) else f"has {len(topics)} partitions"
            raise PartitionsDiffer(
                f"topic {name} exists: it {present}, and {request.partitions} were asked for", settled=True
            )
        if registered is not None:
            for topic in topics:
                await self._schemas.bind(topic, registered)
        return topics

    async def _create(self, name: TopicName, request: api.OpenProducer) -> list[Topic]:
        schema = schema_of(request.schema)
        strategy = default_strategy(self._default_storage)
        if request.HasField("dispatch"):
            strategy = strategy_of(request.dispatch, self._default_storage)
        if not request.partitions:
            return [await self._resolver.find_or_create(name, schema, strategy)]
        try:
            return await self._resolver.create_partitions(name, request.partitions, schema, strategy)
        except AlreadyExists as error:
            if topics := await self._resolver.partitions(name):
                return topics
            raise InvalidInput(str(error)) from None
