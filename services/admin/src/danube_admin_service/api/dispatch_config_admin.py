"""The calls of ``danube_admin.TopicAdmin`` about the dispatch of subscriptions, unknown to v0.2 clients."""

from __future__ import annotations

from danube_admin_service.api.errors import precise_statuses
from danube_admin_service.api.subscription_settings import SubscriptionSettings
from danube_admin_service.api.unary import unary
from danube_common.errors import InvalidInput
from danube_common.model.names import check_label
from danube_common.rpc.port import UnaryHandler
from danube_common.wire.owner.subscriptions import DispatchConfigFound, GetDispatchConfig, SetDispatchConfig
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND


class DispatchConfigAdmin:
    """Sets and tells how many messages of a subscription may be unacknowledged; its owner keeps to it."""

    def __init__(self, settings: SubscriptionSettings) -> None:
        self._settings = settings

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.TopicAdmin"
        return {
            f"{prefix}/SetSubscriptionDispatchConfig": unary(
                wire.SetSubscriptionDispatchConfigRequest, self.set
            ),
            f"{prefix}/GetSubscriptionDispatchConfig": unary(wire.SubscriptionRequest, self.get),
        }

    async def set(self, request: wire.SetSubscriptionDispatchConfigRequest) -> wire.SubscriptionResponse:
        """Set the bound of a subscription in each named topic. If one fails, those before it have it."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            subscription = check_label(request.subscription, "subscription")
            if not request.HasField("dispatch_config"):
                raise InvalidInput("the request has no dispatch_config")
            bound = request.dispatch_config.max_unacked_messages
            return await self._settings.change(
                await self._settings.topics(request.topic),
                lambda topic: SetDispatchConfig(topic, subscription, bound),
            )

    async def get(self, request: wire.SubscriptionRequest) -> wire.GetSubscriptionDispatchConfigResponse:
        """Tell what was set; of a partitioned topic what was set for its first partition."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            found = await self._settings.tell(request, GetDispatchConfig, DispatchConfigFound)
            if not found.max_unacked_messages:
                return wire.GetSubscriptionDispatchConfigResponse()
            config = wire.SubscriptionDispatchConfig(max_unacked_messages=found.max_unacked_messages)
            return wire.GetSubscriptionDispatchConfigResponse(dispatch_config=config)
