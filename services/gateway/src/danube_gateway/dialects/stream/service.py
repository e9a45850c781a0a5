"""``danube.stream.v1.Streaming``: the methods of native streaming."""

from __future__ import annotations

from danube_common.cluster.owner_client import OwnerClient
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_common.rpc.port import Methods
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_gateway.dialects.stream.consume import ConsumeService
from danube_gateway.dialects.stream.metadata import MetadataService
from danube_gateway.dialects.stream.publish import PublishService
from danube_gateway.dialects.stream.read import ReadService
from danube_gateway.dialects.stream.topics import ProducerTopics
from danube_gateway.publish.idempotence import ProducerClaims
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.topic_resolver import TopicResolver


class Streaming:
    """Native streaming. ``default_storage`` is used for new reliable topics."""

    def __init__(
        self,
        resolver: TopicResolver,
        publishing: Publishing,
        owners: OwnerClient,
        registry: SchemaRegistry,
        store: MetadataStore,
        default_storage: StorageBackend,
        consuming: ConsumeService,
    ) -> None:
        self._reading = ReadService(resolver, owners)
        self._consuming = consuming
        self._metadata = MetadataService(resolver, owners, publishing.subjects)
        self._publishing = publishing
        self._claims = ProducerClaims(publishing.bus, owners)
        self._topics = ProducerTopics(
            resolver, registry, TopicSchemas(store), default_storage=default_storage
        )

    def register(self, methods: Methods) -> None:
        """Add the methods."""
        PublishService(self._topics, self._publishing, self._claims).register(methods)
        self._consuming.register(methods)
        self._metadata.register(methods)
        self._reading.register(methods)
