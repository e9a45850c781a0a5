"""``danube.stream.v1.Streaming/DescribeTopic`` and ``ListTopics``."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from typing import Final

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import PartitionedTopic, Topic
from danube_common.errors import InvalidName
from danube_common.model.names import TopicName, check_namespace
from danube_common.rpc.port import Call, Methods
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.wire.owner.topics import BoundsFound, FindBounds
from danube_gateway.dialects.stream.model import schema_message
from danube_gateway.publish.subject_checks import SubjectChecks
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

ASKED_AT_ONCE_MAX: Final = 16
"""Partitions of one request whose owners are being asked at one time."""

_GLOB: Final = re.compile(r"[\w*?-]+")


class MetadataService:
    """Tells clients of topics."""

    def __init__(self, resolver: TopicResolver, owners: OwnerClient, subjects: SubjectChecks) -> None:
        self._resolver = resolver
        self._owners = owners
        self._subjects = subjects

    def register(self, methods: Methods) -> None:
        """Add the methods."""
        methods.unary["/danube.stream.v1.Streaming/DescribeTopic"] = self.describe
        methods.unary["/danube.stream.v1.Streaming/ListTopics"] = self.list

    async def describe(self, call: Call) -> bytes:
        """Describe a topic, or the partitions of one."""
        name = TopicName.parse(parse_strict(api.DescribeTopicRequest, call.request).topic)
        topics = await self._resolver.partitions(name)
        if not topics:
            return api.DescribeTopicResponse().SerializeToString()
        slots = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

        async def ask(topic: Topic) -> BoundsFound:
            async with slots:
                return await self._owners.ask(topic.home, FindBounds(topic.name))

        found = await asyncio.gather(*map(ask, topics))
        response = api.DescribeTopicResponse(
            exists=True,
            topics=[
                api.TopicBounds(
                    topic=topic.name,
                    topic_id=topic.topic_id,
                    earliest_position=bounds.earliest,
                    end_position=bounds.end,
                )
                for topic, bounds in zip(topics, found, strict=True)
            ],
            partitioned=topics[0].name != str(name),
            reliable=topics[0].strategy.is_reliable,
            schema=schema_message(topics[0].schema, self._subjects.subject(topics[0])),
            consumers=sum(bounds.consumers for bounds in found),
            subscriptions=max(bounds.subscriptions for bounds in found),
        )
        return response.SerializeToString()

    async def list(self, call: Call) -> bytes:
        """List the topics that match a pattern; partitions are counted at their base."""
        namespace, matches = parse_pattern(parse_strict(api.ListTopicsRequest, call.request).pattern)
        topics, partitioned = await self._resolver.listed(namespace)
        listed = [each for each in fold_partitions(topics, partitioned) if matches.fullmatch(each.topic)]
        return api.ListTopicsResponse(topics=listed).SerializeToString()


def parse_pattern(pattern: str) -> tuple[str, re.Pattern[str]]:
    """Return the namespace of ``/namespace/glob`` or ``namespace``, and what matches. Raises InvalidName."""
    namespace, slash, glob = pattern.removeprefix("/").partition("/")
    check_namespace(namespace)
    if slash and not _GLOB.fullmatch(glob):
        raise InvalidName(
            f"pattern {pattern[:80]!r} must be /namespace/glob: letters, digits, '_', '-', '*' and '?'"
        )
    return namespace, re.compile(fnmatch.translate(f"/{namespace}/{glob or '*'}"))


def fold_partitions(topics: list[Topic], partitioned: list[PartitionedTopic]) -> list[api.ListedTopic]:
    """Return the topics by name, with each partitioned one in the place of its partitions."""
    counts = {
        topic.name: api.ListedTopic(
            topic=topic.name, partitions=topic.partitions, reliable=topic.strategy.is_reliable
        )
        for topic in partitioned
    }
    plain = [
        api.ListedTopic(topic=topic.name, reliable=topic.strategy.is_reliable)
        for topic in topics
        if str(topic.topic_name.partition_of) not in counts
    ]
    return sorted((*plain, *counts.values()), key=lambda each: each.topic)
