"""``danube_platform.Subscriptions`` and ``Topics``: what clients of this platform need beyond v0.2."""

from __future__ import annotations

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, InvalidInput, NotFound
from danube_common.model.names import TopicName, check_label
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType, start_at
from danube_common.rpc.port import Call, Methods, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    ListSubscriptions,
    LossTotals,
    SubscriptionFound,
    Subscriptions,
    TellLosses,
)
from danube_gateway.dialects.errors import rpc_error, topic_not_found
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform

_KINDS = {
    platform.SubscriptionStart.EARLIEST: StartKind.EARLIEST,
    platform.SubscriptionStart.LATEST: StartKind.LATEST,
    platform.SubscriptionStart.POSITION: StartKind.POSITION,
    platform.SubscriptionStart.LAST: StartKind.LAST,
    platform.SubscriptionStart.TIME: StartKind.TIME,
}
_TYPES = {
    platform.CreateSubscriptionRequest.EXCLUSIVE: SubscriptionType.EXCLUSIVE,
    platform.CreateSubscriptionRequest.SHARED: SubscriptionType.SHARED,
    platform.CreateSubscriptionRequest.FAILOVER: SubscriptionType.FAILOVER,
}


class SubscriptionService:
    """Creates subscriptions, and tells what they lost.

    Errors have the statuses and trailers of `danube.ConsumerService/Subscribe`.
    """

    def __init__(self, resolver: TopicResolver, owners: OwnerClient) -> None:
        self._resolver = resolver
        self._owners = owners

    def register(self, methods: Methods) -> None:
        """Add the service's methods."""
        methods.unary["/danube_platform.Subscriptions/CreateSubscription"] = self.create
        methods.unary["/danube_platform.Subscriptions/TellLosses"] = self.tell_losses

    async def create(self, call: Call) -> bytes:
        """Create the subscription, or find the existing one."""
        request = parse_strict(platform.CreateSubscriptionRequest, call.request)
        name = TopicName.parse(request.topic)
        check_label(request.subscription, "subscription")
        kind = _TYPES.get(request.type)
        if kind is None:
            raise InvalidInput(f"type {request.type} is none of a subscription")
        start = start_of(request.start)
        topic = await find_topic(self._resolver, name)
        try:
            found = await self._owners.ask(
                topic.home,
                CreateSubscription(topic.name, request.subscription, kind, start, request.prefetch),
                SubscriptionFound,
            )
        except AlreadyExists as error:
            raise rpc_error(
                StatusCode.PERMISSION_DENIED, api.ErrorType.SUBSCRIBE_PERMISSION_DENIED, str(error)
            ) from None
        response = platform.CreateSubscriptionResponse(created=found.created, mark_delete=found.mark_delete)
        return response.SerializeToString()

    async def tell_losses(self, call: Call) -> bytes:
        """Answer how many messages the subscription lost, and note what a consumer was told."""
        request = parse_strict(platform.TellLossesRequest, call.request)
        topic = await find_topic(self._resolver, TopicName.parse(request.topic))
        try:
            totals = await self._owners.ask(
                topic.home, TellLosses(topic.name, request.subscription, request.told), LossTotals
            )
        except NotFound as error:
            raise rpc_error(StatusCode.NOT_FOUND, api.ErrorType.SUBSCRIPTION_NOT_FOUND, str(error)) from None
        return platform.TellLossesResponse(lost=totals.lost, told=totals.told).SerializeToString()


class TopicService:
    """Tells clients which topic they speak to, and who listens to it."""

    def __init__(self, resolver: TopicResolver, owners: OwnerClient) -> None:
        self._resolver = resolver
        self._owners = owners

    def register(self, methods: Methods) -> None:
        """Add the service's method."""
        methods.unary["/danube_platform.Topics/GetTopic"] = self.get

    async def get(self, call: Call) -> bytes:
        """Describe one topic or partition."""
        request = parse_strict(platform.GetTopicRequest, call.request)
        topic = await find_topic(self._resolver, TopicName.parse(request.topic))
        known = await self._owners.ask(topic.home, ListSubscriptions(topic.name), Subscriptions)
        response = platform.GetTopicResponse(
            topic_id=topic.topic_id,
            reliable=topic.strategy.is_reliable,
            subscriptions=len(known.subscriptions),
            consumers=sum(len(each.consumers) for each in known.subscriptions),
        )
        return response.SerializeToString()


async def find_topic(resolver: TopicResolver, name: TopicName) -> Topic:
    """Return the topic. Raises RpcError if there is none."""
    topic = await resolver.find(name)
    if topic is None:
        raise topic_not_found(str(name))
    return topic


def start_of(start: platform.SubscriptionStart) -> StartPosition:
    """Return the start position of a request. Raises InvalidInput; the owner checks it against the topic."""
    kind = _KINDS.get(start.kind)
    if kind is None:
        raise InvalidInput(f"start.kind {start.kind} is none of a start")
    return start_at(kind, start.value)
