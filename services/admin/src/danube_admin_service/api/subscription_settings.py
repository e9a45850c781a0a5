"""The calls of ``danube_admin.TopicAdmin`` about settings of subscriptions, which no v0.2 client knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from danube_admin_service.api.named_topics import named_topics
from danube_admin_service.api.unary import precise
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput
from danube_common.model.failure_policy import check_failure_policy, policy_of
from danube_common.model.names import check_label
from danube_common.rpc.port import Call, UnaryHandler
from danube_common.security.roles import Permission
from danube_common.wire.envelope import Done, Request
from danube_common.wire.owner.subscriptions import (
    GetDispatchConfig,
    GetFailurePolicy,
    SetDispatchConfig,
    SetFailurePolicy,
)
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND

R = TypeVar("R", bound=msgspec.Struct)


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
            f"{prefix}/SetSubscriptionFailurePolicy": precise(
                wire.SetSubscriptionFailurePolicyRequest,
                self.set_failure_policy,
                SUBSCRIPTION_NOT_FOUND,
                _may_produce_dead_letters,
            ),
            f"{prefix}/GetSubscriptionFailurePolicy": precise(
                wire.SubscriptionRequest, self.get_failure_policy, SUBSCRIPTION_NOT_FOUND
            ),
            f"{prefix}/SetSubscriptionDispatchConfig": precise(
                wire.SetSubscriptionDispatchConfigRequest, self.set_dispatch_config, SUBSCRIPTION_NOT_FOUND
            ),
            f"{prefix}/GetSubscriptionDispatchConfig": precise(
                wire.SubscriptionRequest, self.get_dispatch_config, SUBSCRIPTION_NOT_FOUND
            ),
        }

    async def set_failure_policy(
        self, request: wire.SetSubscriptionFailurePolicyRequest
    ) -> wire.SubscriptionResponse:
        """Set the failure policy of a subscription."""
        subscription = check_label(request.subscription, "subscription")
        if not request.HasField("failure_policy"):
            raise InvalidInput("the request has no failure_policy")
        policy = policy_of(request.failure_policy)
        topics = await named_topics(self._topics, request.topic)
        for name in (request.topic, *(topic.name for topic in topics)):
            check_failure_policy(policy, name)
        return await self._change(topics, lambda topic: SetFailurePolicy(topic, subscription, policy))

    async def get_failure_policy(
        self, request: wire.SubscriptionRequest
    ) -> wire.GetSubscriptionFailurePolicyResponse:
        """Tell the failure policy of a subscription."""
        found = await self._tell(request, GetFailurePolicy)
        policy = wire.SubscriptionFailurePolicy(**msgspec.structs.asdict(found.policy))
        if not found.policy.dead_letter_topic:
            policy.ClearField("dead_letter_topic")
        return wire.GetSubscriptionFailurePolicyResponse(
            failure_policy=policy, subscription_type=found.subscription_type
        )

    async def set_dispatch_config(
        self, request: wire.SetSubscriptionDispatchConfigRequest
    ) -> wire.SubscriptionResponse:
        """Set how many messages of a subscription may be unacknowledged; its owner keeps to it."""
        subscription = check_label(request.subscription, "subscription")
        if not request.HasField("dispatch_config"):
            raise InvalidInput("the request has no dispatch_config")
        bound = request.dispatch_config.max_unacked_messages
        topics = await named_topics(self._topics, request.topic)
        return await self._change(topics, lambda topic: SetDispatchConfig(topic, subscription, bound))

    async def get_dispatch_config(
        self, request: wire.SubscriptionRequest
    ) -> wire.GetSubscriptionDispatchConfigResponse:
        """Tell the bound that was set; nothing if none was."""
        found = await self._tell(request, GetDispatchConfig)
        if not found.max_unacked_messages:
            return wire.GetSubscriptionDispatchConfigResponse()
        config = wire.SubscriptionDispatchConfig(max_unacked_messages=found.max_unacked_messages)
        return wire.GetSubscriptionDispatchConfigResponse(dispatch_config=config)

    async def _change(
        self, topics: Iterable[Topic], change_of: Callable[[str], Request[Done]]
    ) -> wire.SubscriptionResponse:
        """Have each topic's owner make its change. Raises DanubeError; the topics before have it."""
        for topic in topics:
            await self._owners.ask(topic.home, change_of(topic.name))
        return wire.SubscriptionResponse(success=True)

    async def _tell(
        self, request: wire.SubscriptionRequest, question_of: Callable[[str, str], Request[R]]
    ) -> R:
        """Ask the owner of a topic, or of its first partition, about a subscription. Raises DanubeError."""
        subscription = check_label(request.subscription, "subscription")
        topic = (await named_topics(self._topics, request.topic))[0]
        return await self._owners.ask(topic.home, question_of(topic.name, subscription))


def _may_produce_dead_letters(call: Call, request: wire.SetSubscriptionFailurePolicyRequest) -> None:
    """Whoever has an owner publish to a topic needs the permission to do it. Raises RpcError."""
    if topic := request.failure_policy.dead_letter_topic:
        call.require(Permission.PRODUCE, topic)
