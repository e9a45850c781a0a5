"""``danube.Discovery``: topic lookup, partitions and schema. Every gateway serves every topic.

The answers are the same for both generations of clients.
"""

from __future__ import annotations

from danube_common.model.names import TopicName
from danube_common.rpc.port import Call, Methods
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.dialects.errors import topic_not_found
from danube_gateway.dialects.generations import of_caller
from danube_gateway.dialects.v0_2.model import schema_message
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_api_pb2 as api


class Discovery:
    """Answers lookups. ``url`` is where clients reach this gateway, with a scheme."""

    def __init__(self, resolver: TopicResolver, url: str) -> None:
        self._resolver = resolver
        self.url = url

    def register(self, methods: Methods) -> None:
        """Add the service's methods."""
        methods.unary["/danube.Discovery/TopicLookup"] = self.topic_lookup
        methods.unary["/danube.Discovery/TopicPartitions"] = self.topic_partitions
        methods.unary["/danube.Discovery/GetSchema"] = self.get_schema

    async def topic_lookup(self, call: Call) -> bytes:
        """Answer Connect with this gateway's URL if the topic exists."""
        request = parse_strict(api.TopicLookupRequest, call.request)
        if await self._resolver.find(TopicName.parse(request.topic)) is None:
            raise topic_not_found(request.topic, of_caller(call.metadata))
        response = api.TopicLookupResponse(
            request_id=request.request_id,
            response_type=api.TopicLookupResponse.LookupType.Connect,
            brokerServiceUrl=self.url,
            broker_url=self.url,
            proxy=True,
        )
        return response.SerializeToString()

    async def topic_partitions(self, call: Call) -> bytes:
        """List the topic, or its partitions."""
        request = parse_strict(api.TopicLookupRequest, call.request)
        topics = await self._resolver.partitions(TopicName.parse(request.topic))
        response = api.TopicPartitionsResponse(
            request_id=request.request_id, partitions=[topic.name for topic in topics]
        )
        return response.SerializeToString()

    async def get_schema(self, call: Call) -> bytes:
        """Return the topic's schema."""
        request = parse_strict(api.SchemaRequest, call.request)
        topics = await self._resolver.partitions(TopicName.parse(request.topic))
        if not topics:
            raise topic_not_found(request.topic)
        schema = await self._resolver.schema_of(topics[0])
        response = api.SchemaResponse(request_id=request.request_id, schema=schema_message(schema))
        return response.SerializeToString()
