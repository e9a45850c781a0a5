"""``danube_platform.Subscriptions`` and ``Topics``: what clients of this platform need beyond v0.2."""

from __future__ import annotations

from msgspec.structs import asdict

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, InvalidInput, NotFound
from danube_common.model.failure_policy import FailurePolicy, check_failure_policy, policy_of
from danube_common.model.names import TopicName, check_label
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType, start_at
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    GetFailurePolicy,
    ListSubscriptions,
    SetFailurePolicy,
    TellLosses,
)
from danube_gateway.dialects.errors import rpc_error, topic_not_found
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform

_KINDS = {number: StartKind[name] for name, number in platform.SubscriptionStart.Kind.items()}
_TYPES = {number: SubscriptionType[name] for name, number in platform.CreateSubscriptionRequest.Type.items()}
_NAMES = {"backoff_strategy": "backoff", "poison_policy": "poison"}
"""Of the fields of a failure policy, where the message has other names."""


class SubscriptionService:
    """Creates subscriptions, tells what they lost, sets and tells their failure policies.

    Errors have the statuses and trailers of `danube.ConsumerService/Subscribe`.
    """

    def __init__(self, resolver: TopicResolver, owners: OwnerClient) -> None:
        self._resolver = resolver
        self._owners = owners

    def register(self, methods: Methods) -> None:
        """Add the service's methods."""
        methods.unary["/danube_platform.Subscriptions/CreateSubscription"] = self.create
        methods.unary["/danube_platform.Subscriptions/TellLosses"] = self.tell_losses
        methods.unary["/danube_platform.Subscriptions/SetFailurePolicy"] = self.set_failure_policy
        methods.unary["/danube_platform.Subscriptions/GetFailurePolicy"] = self.get_failure_policy

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
                topic.home, TellLosses(topic.name, request.subscription, request.told)
            )
        except NotFound as error:
            raise _subscription_not_found(error) from None
        return platform.TellLossesResponse(lost=totals.lost, told=totals.told).SerializeToString()

    async def set_failure_policy(self, call: Call) -> bytes:
        """Give the subscription of one topic or partition another failure policy."""
        request = parse_strict(platform.SetFailurePolicyRequest, call.request)
        name = TopicName.parse(request.topic)
        check_label(request.subscription, "subscription")
        if not request.HasField("policy"):
            raise InvalidInput("the request has no policy")
        policy = policy_of(
            {
                name: getattr(request.policy, _NAMES.get(name, name))
                for name in FailurePolicy.__struct_fields__
            }
        )
        for one in filter(None, (name, name.partition_of)):
            check_failure_policy(policy, str(one))
        if policy.dead_letter_topic:
            call.require(Permission.PRODUCE, policy.dead_letter_topic)
        topic = await find_topic(self._resolver, name)
        try:
            await self._owners.ask(topic.home, SetFailurePolicy(topic.name, request.subscription, policy))
        except NotFound as error:
            raise _subscription_not_found(error) from None
        return _policy_response(policy)

    async def get_failure_policy(self, call: Call) -> bytes:
        """Tell the failure policy of the subscription of one topic or partition."""
        request = parse_strict(platform.GetFailurePolicyRequest, call.request)
        topic = await find_topic(self._resolver, TopicName.parse(request.topic))
        try:
            found = await self._owners.ask(topic.home, GetFailurePolicy(topic.name, request.subscription))
        except NotFound as error:
            raise _subscription_not_found(error) from None
        return _policy_response(found.policy)


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
        known = await self._owners.ask(topic.home, ListSubscriptions(topic.name))
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


def _subscription_not_found(error: NotFound) -> RpcError:
    return rpc_error(StatusCode.NOT_FOUND, api.ErrorType.SUBSCRIPTION_NOT_FOUND, str(error))


def _policy_response(policy: FailurePolicy) -> bytes:
    fields = {_NAMES.get(name, name): value for name, value in asdict(policy).items()}
    return platform.FailurePolicyResponse(policy=platform.FailurePolicy(**fields)).SerializeToString()


def start_of(start: platform.SubscriptionStart) -> StartPosition:
    """Return the start position of a request. Raises InvalidInput; the owner checks it against the topic."""
    kind = _KINDS.get(start.kind)
    if kind is None:
        raise InvalidInput(f"start.kind {start.kind} is none of a start")
    return start_at(kind, start.value)
