"""``danube_admin.TopicAdmin``: topics, partitions and their subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from danube_admin_service.api.errors import failure
from danube_admin_service.api.named_topics import named_topics, topic_name
from danube_admin_service.api.strategy_parser import parse_schema, parse_strategy
from danube_admin_service.api.topic_readiness import TopicReadiness
from danube_admin_service.api.unary import unary
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import TopicPlan, Topics
from danube_common.errors import InvalidInput, NotFound, Refused
from danube_common.model.names import check_label
from danube_common.model.strategy import DEFAULT_STORAGE, StorageBackend
from danube_common.rpc.port import StatusCode, UnaryHandler
from danube_common.wire.owner.subscriptions import ListSubscriptions, Unsubscribe
from danube_proto.danube_admin_pb2 import (
    NewTopicRequest,
    SubscriptionListResponse,
    SubscriptionRequest,
    SubscriptionResponse,
    TopicRequest,
    TopicResponse,
)
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND


class TopicAdmin:
    """Creates and deletes topics, and lists and deletes subscriptions. Names are matched as a whole.

    The name of a partitioned topic stands for its partitions.
    """

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
        }

    async def create(self, request: NewTopicRequest) -> TopicResponse:
        """Create a topic; answer when it can be used. An existing topic is not changed."""
        name = topic_name(request.name, code=StatusCode.NOT_FOUND)
        schema = parse_schema(str(name), request.schema_type, request.schema_data)
        strategy = parse_strategy(request.dispatch_strategy, self._default_storage)
        await self.create_planned(await self._topics.plan(name, schema, strategy))
        return TopicResponse(success=True)

    async def create_planned(self, plan: TopicPlan) -> list[Topic]:
        """Create topics; return them when they can be used. One topic of each bundle stands for all of it.

        An owner looks into the store for a topic it has not heard of: if it finds one, it finds all.
        """
        for bundle, name in {bundle: name for name, bundle in plan.bundles.items()}.items():
            await self._readiness.owner_answers(bundle, name)
        created = await self._topics.write(plan)
        for topic in _one_of_each_bundle(created):
            await self._readiness.usable(topic)
        return created

    async def delete(self, request: TopicRequest) -> TopicResponse:
        """Delete a topic and its partitions, if any; answer when the owners have ended its streams."""
        name = topic_name(request.name, code=StatusCode.NOT_FOUND)
        try:
            deleted = await self._topics.delete(name)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None
        except Refused as error:
            raise failure(str(error), code=StatusCode.FAILED_PRECONDITION) from None
        await asyncio.gather(*(self._readiness.gone(one) for one in _one_of_each_bundle(deleted)))
        return TopicResponse(success=True)

    async def list_subscriptions(self, request: TopicRequest) -> SubscriptionListResponse:
        """List the names of a topic's subscriptions, or those of its partitions together, sorted."""
        names: set[str] = set()
        for topic in await named_topics(self._topics, request.name, code=StatusCode.NOT_FOUND):
            try:
                answer = await self._owners.ask(topic.home, ListSubscriptions(topic.name))
            except NotFound:  # deleted meanwhile
                continue
            names.update(one.name for one in answer.subscriptions)
        return SubscriptionListResponse(subscriptions=sorted(names))

    async def unsubscribe(self, request: SubscriptionRequest) -> SubscriptionResponse:
        """Delete a subscription, in all partitions that have it; refused while a consumer is connected.

        If a partition refuses, those before it have lost the subscription; the call can be repeated.
        """
        topics = await named_topics(self._topics, request.topic, code=StatusCode.NOT_FOUND)
        try:
            subscription = check_label(request.subscription, "subscription")
        except InvalidInput as error:
            raise failure(str(error), SUBSCRIPTION_NOT_FOUND) from None
        missing: NotFound | None = None
        found = False
        for topic in topics:
            try:
                await self._owners.ask(topic.home, Unsubscribe(topic.name, subscription))
            except NotFound as error:
                missing = error
            else:
                found = True
        if not found:
            raise failure(str(missing), SUBSCRIPTION_NOT_FOUND)
        return SubscriptionResponse(success=True)


def _one_of_each_bundle(topics: Iterable[Topic]) -> list[Topic]:
    """One topic of each bundle stands for all of it: its owner learns of them in one go."""
    return list({topic.bundle: topic for topic in topics}.values())
