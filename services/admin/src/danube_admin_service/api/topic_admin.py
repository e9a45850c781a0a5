"""``danube_admin.TopicAdmin``: topics, partitions and their subscriptions."""

from __future__ import annotations

from danube_admin_service.api.errors import failure, topic_name
from danube_admin_service.api.strategy_parser import parse_schema, parse_strategy
from danube_admin_service.api.topic_readiness import TopicReadiness
from danube_admin_service.api.unary import unary
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import TopicPlan, Topics
from danube_common.errors import AlreadyExists, InvalidInput, NotFound
from danube_common.model.names import TopicName, check_label
from danube_common.model.strategy import DEFAULT_STORAGE, StorageBackend
from danube_common.rpc.port import UnaryHandler
from danube_common.wire import owner as owner_protocol
from danube_common.wire.envelope import Done
from danube_proto.danube_admin_pb2 import (
    NewTopicRequest,
    SubscriptionListResponse,
    SubscriptionRequest,
    SubscriptionResponse,
    TopicRequest,
    TopicResponse,
)
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND
from danube_proto.danube_platform_pb2 import CreatePartitionsRequest, CreatePartitionsResponse

OWNER_TIMEOUT_S = 5.0
PARTITIONS_PER_CALL_MAX = 1000


class TopicAdmin:
    """Creates and deletes topics, and lists and deletes subscriptions. Names are matched as a whole."""

    def __init__(
        self,
        topics: Topics,
        owners: OwnerClient,
        readiness: TopicReadiness,
        *,
        default_storage: StorageBackend = DEFAULT_STORAGE,
    ) -> None:
        self._topics = topics
        self._owners = owners
        self._readiness = readiness
        self._default_storage = default_storage

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.TopicAdmin"
        return {
            f"{prefix}/CreateTopic": unary(NewTopicRequest, self.create),
            f"{prefix}/DeleteTopic": unary(TopicRequest, self.delete),
            f"{prefix}/ListSubscriptions": unary(TopicRequest, self.list_subscriptions),
            f"{prefix}/Unsubscribe": unary(SubscriptionRequest, self.unsubscribe),
            "/danube_platform.PartitionAdmin/CreatePartitions": unary(
                CreatePartitionsRequest, self.create_partitions
            ),
        }

    async def create(self, request: NewTopicRequest) -> TopicResponse:
        """Create a topic; answer when it can be used. An existing topic is not changed."""
        name = topic_name(request.name)
        schema = parse_schema(str(name), request.schema_type, request.schema_data)
        strategy = parse_strategy(request.dispatch_strategy, self._default_storage)
        if await self._topics.get(name) is not None:
            raise AlreadyExists(f"topic {name} exists already")
        await self.create_planned(await self._topics.plan([name], schema, strategy))
        return TopicResponse(success=True)

    async def create_partitions(self, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
        """Create partitions; answer when all of them can be used."""
        name = topic_name(request.topic)
        if not 1 <= request.partitions <= PARTITIONS_PER_CALL_MAX:
            raise InvalidInput(f"1 to {PARTITIONS_PER_CALL_MAX} partitions are made by one call")
        schema = parse_schema(str(name), request.schema_type, request.schema_data)
        strategy = parse_strategy(request.dispatch_strategy, self._default_storage)
        numbers = range(request.first, request.first + request.partitions)
        await self.create_planned(await self._topics.plan_partitions(name, numbers, schema, strategy))
        return CreatePartitionsResponse(success=True)

    async def create_planned(self, plan: TopicPlan) -> None:
        """Create topics; return when they can be used. One topic of each bundle stands for all of it.

        An owner looks into the store for a topic it has not heard of: if it finds one, it finds all.
        """
        for bundle, name in {bundle: name for name, bundle in plan.bundles.items()}.items():
            await self._readiness.owner_answers(bundle, name)
        for topic in {topic.bundle: topic for topic in await self._topics.write(plan)}.values():
            await self._readiness.usable(topic)

    async def delete(self, request: TopicRequest) -> TopicResponse:
        """Delete a topic; answer when its owner has ended its streams."""
        name = topic_name(request.name)
        try:
            topic = await self._topics.delete(name)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None
        await self._readiness.gone(topic)
        return TopicResponse(success=True)

    async def list_subscriptions(self, request: TopicRequest) -> SubscriptionListResponse:
        """List subscription names, sorted; an unknown topic has none."""
        name = topic_name(request.name)
        topic = await self._topics.get(name)
        if topic is None:
            return SubscriptionListResponse()
        try:
            answer = await self._owners.ask(
                topic.home,
                owner_protocol.ListSubscriptions(str(name)),
                owner_protocol.Subscriptions,
                timeout_s=OWNER_TIMEOUT_S,
            )
        except NotFound:  # deleted meanwhile
            return SubscriptionListResponse()
        return SubscriptionListResponse(subscriptions=sorted(one.name for one in answer.subscriptions))

    async def unsubscribe(self, request: SubscriptionRequest) -> SubscriptionResponse:
        """Delete a subscription; refused while a consumer is connected."""
        name = topic_name(request.topic)
        topic = await self._existing(name)
        try:
            subscription = check_label(request.subscription, "subscription")
        except InvalidInput as error:
            raise failure(str(error), SUBSCRIPTION_NOT_FOUND) from None
        try:
            await self._owners.ask(
                topic.home,
                owner_protocol.Unsubscribe(str(name), subscription),
                Done,
                timeout_s=OWNER_TIMEOUT_S,
            )
        except NotFound as error:
            raise failure(str(error), SUBSCRIPTION_NOT_FOUND) from None
        return SubscriptionResponse(success=True)

    async def _existing(self, name: TopicName) -> Topic:
        try:
            return await self._topics.require(name)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None
