"""The calls of ``danube_admin.TopicAdmin`` about failure policies, which no v0.2 client knows."""

from __future__ import annotations

from danube_admin_service.api.errors import precise_statuses
from danube_admin_service.api.subscription_settings import SubscriptionSettings
from danube_admin_service.api.unary import unary
from danube_common.errors import InvalidInput
from danube_common.model.failure_policy import (
    BackoffStrategy,
    FailurePolicy,
    PoisonPolicy,
    check_failure_policy,
)
from danube_common.model.names import check_label
from danube_common.rpc.port import Call, UnaryHandler
from danube_common.security.roles import Permission
from danube_common.wire.owner.subscriptions import FailurePolicyFound, GetFailurePolicy, SetFailurePolicy
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND


class FailurePolicyAdmin:
    """Sets and tells failure policies: the owner of a topic has those of its subscriptions."""

    def __init__(self, settings: SubscriptionSettings) -> None:
        self._settings = settings

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.TopicAdmin"
        return {
            f"{prefix}/SetSubscriptionFailurePolicy": unary(
                wire.SetSubscriptionFailurePolicyRequest, self.set, _may_produce_dead_letters
            ),
            f"{prefix}/GetSubscriptionFailurePolicy": unary(wire.SubscriptionRequest, self.get),
        }

    async def set(self, request: wire.SetSubscriptionFailurePolicyRequest) -> wire.SubscriptionResponse:
        """Set the policy of a subscription in each named topic. If one fails, those before it have it."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            subscription = check_label(request.subscription, "subscription")
            if not request.HasField("failure_policy"):
                raise InvalidInput("the request has no failure_policy")
            policy = _policy(request.failure_policy)
            topics = await self._settings.topics(request.topic)
            for name in (request.topic, *(topic.name for topic in topics)):
                check_failure_policy(policy, name)
            return await self._settings.change(
                topics, lambda topic: SetFailurePolicy(topic, subscription, policy)
            )

    async def get(self, request: wire.SubscriptionRequest) -> wire.GetSubscriptionFailurePolicyResponse:
        """Tell the policy of a subscription; of a partitioned topic that of its first partition."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            found = await self._settings.tell(request, GetFailurePolicy, FailurePolicyFound)
            return wire.GetSubscriptionFailurePolicyResponse(
                failure_policy=_message(found.policy), subscription_type=found.subscription_type
            )


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
