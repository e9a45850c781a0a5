"""``danube_platform.PartitionAdmin``: creates, grows and lists partitioned topics."""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.named_topics import topic_name
from danube_admin_service.api.strategy_parser import parse_schema, parse_strategy
from danube_admin_service.api.topic_admin import TopicAdmin
from danube_admin_service.api.unary import precise, unary
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.partitioning import PARTITIONS_MAX
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput
from danube_common.model.names import check_namespace
from danube_common.model.strategy import StorageBackend
from danube_common.rpc.port import StatusCode, UnaryHandler
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    GetDispatchConfig,
    GetFailurePolicy,
    ListSubscriptions,
    SetDispatchConfig,
    SetFailurePolicy,
)
from danube_proto import danube_platform_pb2 as wire
from danube_proto.danube_api_pb2 import TOPIC_NOT_FOUND

PARTITIONS_PER_CALL_MAX: Final = 1000


class PartitionAdmin:
    """Creates partitions through ``admin``, which waits until they can be used."""

    def __init__(
        self,
        namespaces: Namespaces,
        topics: Topics,
        owners: OwnerClient,
        admin: TopicAdmin,
        *,
        default_storage: StorageBackend,
    ) -> None:
        self._namespaces = namespaces
        self._topics = topics
        self._owners = owners
        self._admin = admin
        self._default_storage = default_storage

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_platform.PartitionAdmin"
        return {
            f"{prefix}/CreatePartitions": unary(wire.CreatePartitionsRequest, self.create),
            f"{prefix}/GrowTopic": precise(wire.GrowTopicRequest, self.grow, TOPIC_NOT_FOUND),
            f"{prefix}/ListPartitionedTopics": precise(wire.ListPartitionedTopicsRequest, self.list_topics),
        }

    async def create(self, request: wire.CreatePartitionsRequest) -> wire.CreatePartitionsResponse:
        """Create partitions; answer when all of them can be used."""
        name = topic_name(request.topic, code=StatusCode.NOT_FOUND)
        if not 1 <= request.partitions <= PARTITIONS_PER_CALL_MAX:
            raise InvalidInput(f"1 to {PARTITIONS_PER_CALL_MAX} partitions are made by one call")
        schema = parse_schema(str(name), request.schema_type, request.schema_data)
        strategy = parse_strategy(request.dispatch_strategy, self._default_storage)
        numbers = range(request.first, request.first + request.partitions)
        await self._admin.create_planned(await self._topics.plan_partitions(name, numbers, schema, strategy))
        return wire.CreatePartitionsResponse(success=True)

    async def grow(self, request: wire.GrowTopicRequest) -> wire.GrowTopicResponse:
        """Add partitions to a topic until it has a number of them; answer when all of them can be used.

        They have the subscriptions of the first partition, so what is published before consumers is kept.
        """
        name = topic_name(request.topic)
        if not 1 <= request.partitions <= PARTITIONS_MAX:
            raise InvalidInput(f"partitions is 1 to {PARTITIONS_MAX}, not {request.partitions}")
        present = await self._topics.partitions(name)
        plan = await self._topics.plan_growth(name, request.partitions)
        if len(plan.bundles) > PARTITIONS_PER_CALL_MAX:
            raise InvalidInput(
                f"{len(plan.bundles)} partitions are missing, and one call creates at most "
                f"{PARTITIONS_PER_CALL_MAX}"
            )
        created = await self._admin.create_planned(plan)
        if present and present[0].strategy.is_reliable:
            await self._copy_subscriptions(present[0], created)
        return wire.GrowTopicResponse(success=True)

    async def list_topics(
        self, request: wire.ListPartitionedTopicsRequest
    ) -> wire.ListPartitionedTopicsResponse:
        """List the partitioned topics of a namespace."""
        namespace = check_namespace(request.namespace)
        await self._namespaces.get(namespace)
        _topics, found = await self._topics.listed(namespace)
        return wire.ListPartitionedTopicsResponse(
            topics=[
                wire.PartitionedTopicInfo(
                    topic=one.name, partitions=one.partitions, reliable=one.strategy.is_reliable
                )
                for one in found
            ]
        )

    async def _copy_subscriptions(self, source: Topic, targets: list[Topic]) -> None:
        ask, home = self._owners.ask, source.home
        for one in (await ask(home, ListSubscriptions(source.name))).subscriptions:
            policy = (await ask(home, GetFailurePolicy(source.name, one.name))).policy
            unacked_max = (await ask(home, GetDispatchConfig(source.name, one.name))).max_unacked_messages
            for target in targets:
                copy = target.name, one.name
                await ask(target.home, CreateSubscription(*copy, one.subscription_type))
                await ask(target.home, SetFailurePolicy(*copy, policy))
                if unacked_max:
                    await ask(target.home, SetDispatchConfig(*copy, unacked_max))
