"""The calls of ``danube_admin.TopicAdmin`` about settings of subscriptions, which no v0.2 client knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from danube_admin_service.api.errors import failure, precise_statuses, topic_name
from danube_admin_service.api.unary import unary
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput, NotFound
from danube_common.model.failure_policy import (
    BackoffStrategy,
    FailurePolicy,
    PoisonPolicy,
    check_failure_policy,
)
from danube_common.model.names import check_label
from danube_common.rpc.port import Call, StatusCode, UnaryHandler
from danube_common.security.roles import Permission
from danube_common.wire.envelope import Done
from danube_common.wire.owner.protocol import OwnerReply, OwnerRequest
from danube_common.wire.owner.subscriptions import (
    DispatchConfigFound,
    FailurePolicyFound,
    GetDispatchConfig,
    GetFailurePolicy,
    SetDispatchConfig,
    SetFailurePolicy,
)
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND

OWNER_TIMEOUT_S: Final = 5.0

Reply = TypeVar("Reply", bound=OwnerReply)


class SubscriptionSettings:
    """Sets and tells failure policies and bounds of dispatch, which the owners of topics keep.

    What is set holds in each partition; if one fails, those before it have it. What is told of a partitioned
    topic is that of its first partition.
    """

    def __init__(self, topics: Topics, owners: OwnerClient) -> None:
        self._topics = topics
        self._owners = owners

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.TopicAdmin"
        return {
            f"{prefix}/SetSubscriptionFailurePolicy": unary(
                wire.SetSubscriptionFailurePolicyRequest, self.set_failure_policy, _may_produce_dead_letters
            ),
            f"{prefix}/GetSubscriptionFailurePolicy": unary(
                wire.SubscriptionRequest, self.get_failure_policy
            ),
            f"{prefix}/SetSubscriptionDispatchConfig": unary(
                wire.SetSubscriptionDispatchConfigRequest, self.set_dispatch_config
            ),
            f"{prefix}/GetSubscriptionDispatchConfig": unary(
                wire.SubscriptionRequest, self.get_dispatch_config
            ),
        }

    async def set_failure_policy(
        self, request: wire.SetSubscriptionFailurePolicyRequest
    ) -> wire.SubscriptionResponse:
        """Set the failure policy of a subscription."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            subscription = check_label(request.subscription, "subscription")
            if not request.HasField("failure_policy"):
                raise InvalidInput("the request has no failure_policy")
            policy = _policy(request.failure_policy)
            topics = await self._named(request.topic)
            for name in (request.topic, *(topic.name for topic in topics)):
                check_failure_policy(policy, name)
            return await self._change(topics, lambda topic: SetFailurePolicy(topic, subscription, policy))

    async def get_failure_policy(
        self, request: wire.SubscriptionRequest
    ) -> wire.GetSubscriptionFailurePolicyResponse:
        """Tell the failure policy of a subscription."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            found = await self._tell(request, GetFailurePolicy, FailurePolicyFound)
            return wire.GetSubscriptionFailurePolicyResponse(
                failure_policy=_message(found.policy), subscription_type=found.subscription_type
            )

    async def set_dispatch_config(
        self, request: wire.SetSubscriptionDispatchConfigRequest
    ) -> wire.SubscriptionResponse:
        """Set how many messages of a subscription may be unacknowledged; its owner keeps to it."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            subscription = check_label(request.subscription, "subscription")
            if not request.HasField("dispatch_config"):
                raise InvalidInput("the request has no dispatch_config")
            bound = request.dispatch_config.max_unacked_messages
            topics = await self._named(request.topic)
            return await self._change(topics, lambda topic: SetDispatchConfig(topic, subscription, bound))

    async def get_dispatch_config(
        self, request: wire.SubscriptionRequest
    ) -> wire.GetSubscriptionDispatchConfigResponse:
        """Tell the bound that was set; nothing if none was."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            found = await self._tell(request, GetDispatchConfig, DispatchConfigFound)
            if not found.max_unacked_messages:
                return wire.GetSubscriptionDispatchConfigResponse()
            config = wire.SubscriptionDispatchConfig(max_unacked_messages=found.max_unacked_messages)
            return wire.GetSubscriptionDispatchConfigResponse(dispatch_config=config)

    async def _named(self, name: str) -> list[Topic]:
        """Return a topic, or the partitions of one. Raises RpcError."""
        parsed = topic_name(name, code=StatusCode.INVALID_ARGUMENT)
        try:
            return await self._topics.named(parsed)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None

    async def _change(
        self, topics: Iterable[Topic], change_of: Callable[[str], OwnerRequest]
    ) -> wire.SubscriptionResponse:
        """Have each topic's owner make its change. Raises DanubeError; the topics before have it."""
        for topic in topics:
            await self._owners.ask(topic.home, change_of(topic.name), Done, timeout_s=OWNER_TIMEOUT_S)
        return wire.SubscriptionResponse(success=True)

    async def _tell(
        self,
        request: wire.SubscriptionRequest,
        question_of: Callable[[str, str], OwnerRequest],
        reply: type[Reply],
    ) -> Reply:
        """Ask the owner of a topic, or of its first partition, about a subscription. Raises DanubeError."""
        subscription = check_label(request.subscription, "subscription")
        topic = (await self._named(request.topic))[0]
        question = question_of(topic.name, subscription)
        return await self._owners.ask(topic.home, question, reply, timeout_s=OWNER_TIMEOUT_S)


def _may_produce_dead_letters(call: Call, request: wire.SetSubscriptionFailurePolicyRequest) -> None:
    """Whoever has an owner publish to a topic needs the permission to do it. Raises RpcError."""
    if topic := request.failure_policy.dead_letter_topic:
        call.require(Permission.PRODUCE, topic)


def _policy(message: wire.SubscriptionFailurePolicy) -> FailurePolicy:
    """Raises InvalidInput."""
    try:
        backoff, poison = BackoffStrategy(message.backoff_strategy), PoisonPolicy(message.poison_policy)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    return FailurePolicy(
        message.max_redelivery_count,
        message.ack_timeout_ms,
        message.base_redelivery_delay_ms,
        message.max_redelivery_delay_ms,
        backoff,
        message.dead_letter_topic,
        poison,
    )


def _message(policy: FailurePolicy) -> wire.SubscriptionFailurePolicy:
    return wire.SubscriptionFailurePolicy(
        max_redelivery_count=policy.max_redelivery_count,
        ack_timeout_ms=policy.ack_timeout_ms,
        base_redelivery_delay_ms=policy.base_redelivery_delay_ms,
        max_redelivery_delay_ms=policy.max_redelivery_delay_ms,
        backoff_strategy=wire.BackoffStrategy.Name(policy.backoff_strategy),
        dead_letter_topic=policy.dead_letter_topic or None,
        poison_policy=wire.PoisonPolicy.Name(policy.poison_policy),
    )
