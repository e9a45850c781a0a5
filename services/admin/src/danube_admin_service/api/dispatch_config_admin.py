"""The calls of ``danube_admin.TopicAdmin`` about the dispatch of subscriptions, unknown to v0.2 clients."""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.errors import failure, precise_statuses, topic_name
from danube_admin_service.api.unary import unary
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput, NotFound
from danube_common.model.names import check_label
from danube_common.rpc.port import StatusCode, UnaryHandler
from danube_common.wire import owner as owner_protocol
from danube_common.wire.envelope import Done
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND

OWNER_TIMEOUT_S: Final = 5.0


class DispatchConfigAdmin:
    """Sets and tells how many messages of a subscription may be unacknowledged; its owner keeps to it."""

    def __init__(self, topics: Topics, owners: OwnerClient) -> None:
        self._topics = topics
        self._owners = owners

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
            for topic in await self._named(request.topic):
                await self._owners.ask(
                    topic.home,
                    owner_protocol.SetDispatchConfig(
                        topic.name, subscription, request.dispatch_config.max_unacked_messages
                    ),
                    Done,
                    timeout_s=OWNER_TIMEOUT_S,
                )
            return wire.SubscriptionResponse(success=True)

    async def get(self, request: wire.SubscriptionRequest) -> wire.GetSubscriptionDispatchConfigResponse:
        """Tell what was set; of a partitioned topic what was set for its first partition."""
        async with precise_statuses(SUBSCRIPTION_NOT_FOUND):
            subscription = check_label(request.subscription, "subscription")
            topic = (await self._named(request.topic))[0]
            found = await self._owners.ask(
                topic.home,
                owner_protocol.GetDispatchConfig(topic.name, subscription),
                owner_protocol.DispatchConfigFound,
                timeout_s=OWNER_TIMEOUT_S,
            )
            if not found.max_unacked_messages:
                return wire.GetSubscriptionDispatchConfigResponse()
            config = wire.SubscriptionDispatchConfig(max_unacked_messages=found.max_unacked_messages)
            return wire.GetSubscriptionDispatchConfigResponse(dispatch_config=config)

    async def _named(self, name: str) -> list[Topic]:
        parsed = topic_name(name, code=StatusCode.INVALID_ARGUMENT)
        try:
            return await self._topics.named(parsed)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None
