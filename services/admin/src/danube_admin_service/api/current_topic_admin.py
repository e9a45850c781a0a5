"""``danube_admin.TopicAdmin`` of the current generation: topics with their brokers and schema subjects."""

from __future__ import annotations

from collections.abc import Awaitable

from google.protobuf.message import DecodeError

from danube_admin_service.api.named_topics import named_topics, topic_name
from danube_admin_service.api.partition_admin import PARTITIONS_PER_CALL_MAX
from danube_admin_service.api.topic_admin import TopicAdmin
from danube_admin_service.api.unary import precise, unary
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import TopicPlan, Topics
from danube_common.errors import InvalidInput, NotFound
from danube_common.metadata.port import MetadataStore
from danube_common.model.names import check_namespace
from danube_common.model.schema import UNCHOSEN_SCHEMA, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.rpc.port import Call, UnaryHandler
from danube_common.schemas.records import Subject
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_proto import danube_admin_pb2 as wire

_V0_2_TYPES = frozenset(SchemaKind)


class CurrentTopicAdmin:
    """Lists, describes and creates topics, these as clients of the current generation create them."""

    def __init__(
        self,
        store: MetadataStore,
        topics: Topics,
        cluster: Cluster,
        registry: SchemaRegistry,
        admin: TopicAdmin,
        *,
        default_storage: StorageBackend,
    ) -> None:
        self._namespaces = Namespaces(store)
        self._topic_schemas = TopicSchemas(store)
        self._topics = topics
        self._cluster = cluster
        self._registry = registry
        self._admin = admin
        self._default_storage = default_storage

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods. CreateTopic takes the place of v0.2's, and calls it."""
        prefix = "/danube_admin.TopicAdmin"
        older = self._admin.methods()[f"{prefix}/CreateTopic"]
        current = precise(wire.NewTopicRequestCurrent, self.create)

        def create(call: Call) -> Awaitable[bytes] | bytes:
            return (current if is_current(call.request) else older)(call)

        return {
            f"{prefix}/CreateTopic": create,
            f"{prefix}/CreatePartitionedTopic": precise(
                wire.PartitionedTopicRequest, self.create_partitioned
            ),
            f"{prefix}/ListNamespaceTopics": precise(wire.NamespaceRequest, self.list_of_namespace),
            f"{prefix}/ListBrokerTopics": precise(wire.BrokerRequest, self.list_of_broker),
            f"{prefix}/DescribeTopic": unary(wire.TopicRequest, self.describe),
        }

    async def list_of_namespace(self, request: wire.NamespaceRequest) -> wire.TopicInfoListResponse:
        """List the topics of a namespace."""
        namespace = check_namespace(request.name)
        await self._namespaces.get(namespace)
        return self._listed(await self._topics.in_namespace(namespace))

    async def list_of_broker(self, request: wire.BrokerRequest) -> wire.TopicInfoListResponse:
        """List the topics that a topic owner serves now."""
        if request.broker_id not in self._cluster.owners:
            raise NotFound(f"there is no broker {request.broker_id!r}")
        found: list[Topic] = []
        for namespace in await self._namespaces.names():
            found += await self._topics.in_namespace(namespace)
        return self._listed([one for one in found if self._broker(one) == request.broker_id])

    def _listed(self, topics: list[Topic]) -> wire.TopicInfoListResponse:
        return wire.TopicInfoListResponse(
            topics=[
                wire.TopicInfo(name=one.name, broker_id=self._broker(one), delivery=delivery(one))
                for one in topics
            ]
        )

    async def describe(self, request: wire.TopicRequest) -> wire.DescribeTopicResponse:
        """Describe a topic or its partitions as one, with the latest version of the subject."""
        topics = await named_topics(self._topics, request.name)
        first = topics[0]
        listed = await self._admin.list_subscriptions(request)
        brokers = {self._broker(topic) for topic in topics}
        described = wire.DescribeTopicResponse(
            name=request.name,
            subscriptions=listed.subscriptions,
            broker_id=brokers.pop() if len(brokers) == 1 else "",
            delivery=delivery(first),
        )
        if (bound := await self._topic_schemas.get(first)) is not None:
            described.schema_subject, described.schema_id = bound.subject, bound.schema_id
            try:
                latest = await self._registry.resolve(bound.subject)
            except NotFound:  # all its versions were deleted
                return described
            described.schema_version, described.schema_type = latest.version.version, latest.version.kind
            described.compatibility_mode = latest.subject.compatibility.upper()
        return described

    async def create(self, request: wire.NewTopicRequestCurrent) -> wire.TopicResponse:
        """Create a topic; answer when it can be used."""
        name = topic_name(request.name)
        subject = await self._subject(request)
        strategy = self._strategy(request.dispatch_strategy)
        return await self._create(await self._topics.plan(name, UNCHOSEN_SCHEMA, strategy), subject)

    async def create_partitioned(self, request: wire.PartitionedTopicRequest) -> wire.TopicResponse:
        """Create a topic's partitions; answer when all of them can be used."""
        name = topic_name(request.base_name)
        if not 1 <= request.partitions <= PARTITIONS_PER_CALL_MAX:
            raise InvalidInput(f"partitions is 1 to {PARTITIONS_PER_CALL_MAX}, not {request.partitions}")
        subject = await self._subject(request)
        strategy = self._strategy(request.dispatch_strategy)
        numbers = range(request.partitions)
        plan = await self._topics.plan_partitions(name, numbers, UNCHOSEN_SCHEMA, strategy)
        return await self._create(plan, subject)

    async def _create(self, plan: TopicPlan, subject: Subject | None) -> wire.TopicResponse:
        await self._admin.create_planned(plan)
        if subject is not None:
            # Partitions have one subject: it is set by one of them.
            await self._topic_schemas.bind(await self._topics.require(next(iter(plan.bundles))), subject)
        return wire.TopicResponse(success=True)

    async def _subject(
        self, request: wire.NewTopicRequestCurrent | wire.PartitionedTopicRequest
    ) -> Subject | None:
        return await self._registry.subject(request.schema_subject) if request.schema_subject else None

    def _strategy(self, number: int) -> Strategy:
        if number not in (wire.NonReliable, wire.Reliable):
            raise InvalidInput(f"dispatch_strategy {number} is neither NonReliable nor Reliable")
        if number == wire.NonReliable:
            return Strategy()
        return Strategy(ReliableOptions(storage=self._default_storage, retention=Retention.UNTIL_ACK))

    def _broker(self, topic: Topic) -> str:
        return self._cluster.claimed.get(topic.home, "")


def delivery(topic: Topic) -> str:
    """Return a topic's dispatch strategy in the contract's words."""
    return "Reliable" if topic.strategy.is_reliable else "NonReliable"


def is_current(data: bytes) -> bool:
    """Return whether a CreateTopic is of the current generation, by its bytes."""
    try:
        old = wire.NewTopicRequest.FromString(data)
        new = wire.NewTopicRequestCurrent.FromString(data)
    except DecodeError:
        return False
    if old.schema_data or old.dispatch_strategy:
        return False
    return bool(new.dispatch_strategy) or old.schema_type.lower() not in _V0_2_TYPES
