"""``danube_platform.PartitionAdmin``: creates, grows and lists partitioned topics."""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.errors import precise_statuses, topic_name
from danube_admin_service.api.strategy_parser import parse_schema, parse_strategy
from danube_admin_service.api.topic_admin import TopicAdmin
from danube_admin_service.api.unary import unary
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.partitioning import PARTITIONS_MAX
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput
from danube_common.model.names import check_namespace
from danube_common.model.strategy import StorageBackend
from danube_common.model.subscription import StartKind, StartPosition
from danube_common.rpc.port import StatusCode, UnaryHandler
from danube_common.wire.envelope import Done
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    DispatchConfigFound,
    FailurePolicyFound,
    GetDispatchConfig,
    GetFailurePolicy,
    ListSubscriptions,
    SetDispatchConfig,
    SetFailurePolicy,
    SubscriptionFound,
    Subscriptions,
)
from danube_proto import danube_platform_pb2 as wire
from danube_proto.danube_api_pb2 import TOPIC_NOT_FOUND

OWNER_TIMEOUT_S: Final = 5.0
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
            f"{prefix}/GrowTopic": unary(wire.GrowTopicRequest, self.grow),
            f"{prefix}/ListPartitionedTopics": unary(wire.ListPartitionedTopicsRequest, self.list_topics),
        }

    async def create(self, request: wire.CreatePartitionsRequest) -> wire.CreatePartitionsResponse:
        """Create partitions; answer when all of them can be used."""
        name = topic_name(request.topic)
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
        async with precise_statuses(TOPIC_NOT_FOUND):
            name = topic_name(request.topic, code=StatusCode.INVALID_ARGUMENT)
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
        async with precise_statuses():
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
        asked = ListSubscriptions(source.name)
        found = await self._owners.ask(source.home, asked, Subscriptions, timeout_s=OWNER_TIMEOUT_S)
        for one in found.subscriptions:
            policy = await self._owners.ask(
                source.home,
                GetFailurePolicy(source.name, one.name),
                FailurePolicyFound,
                timeout_s=OWNER_TIMEOUT_S,
            )
            config = await self._owners.ask(
                source.home,
                GetDispatchConfig(source.name, one.name),
                DispatchConfigFound,
                timeout_s=OWNER_TIMEOUT_S,
            )
            for target in targets:
                await self._owners.ask(
                    target.home,
                    CreateSubscription(
                        target.name, one.name, one.subscription_type, StartPosition(StartKind.EARLIEST)
                    ),
                    SubscriptionFound,
                    timeout_s=OWNER_TIMEOUT_S,
                )
                await self._owners.ask(
                    target.home,
                    SetFailurePolicy(target.name, one.name, policy.policy),
                    Done,
                    timeout_s=OWNER_TIMEOUT_S,
                )
                if config.max_unacked_messages:
                    await self._owners.ask(
                        target.home,
                        SetDispatchConfig(target.name, one.name, config.max_unacked_messages),
                        Done,
                        timeout_s=OWNER_TIMEOUT_S,
                    )
