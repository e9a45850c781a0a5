"""Finds the topics whose subscriptions a call names, and asks their owners."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from danube_admin_service.api.errors import failure, topic_name
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import NotFound
from danube_common.model.names import check_label
from danube_common.rpc.port import StatusCode
from danube_common.wire.envelope import Done
from danube_common.wire.owner.protocol import OwnerReply, OwnerRequest
from danube_proto import danube_admin_pb2 as wire
from danube_proto.danube_api_pb2 import TOPIC_NOT_FOUND

OWNER_TIMEOUT_S: Final = 5.0

Reply = TypeVar("Reply", bound=OwnerReply)


class SubscriptionSettings:
    """What the calls about one setting of a subscription have in common."""

    def __init__(self, topics: Topics, owners: OwnerClient) -> None:
        self._topics = topics
        self._owners = owners

    async def topics(self, name: str) -> list[Topic]:
        """Return a topic, or the partitions of one. Raises RpcError."""
        parsed = topic_name(name, code=StatusCode.INVALID_ARGUMENT)
        try:
            return await self._topics.named(parsed)
        except NotFound as error:
            raise failure(str(error), TOPIC_NOT_FOUND) from None

    async def change(
        self, topics: Iterable[Topic], change_of: Callable[[str], OwnerRequest]
    ) -> wire.SubscriptionResponse:
        """Have each topic's owner make its change. Raises DanubeError; the topics before have it."""
        for topic in topics:
            await self._owners.ask(topic.home, change_of(topic.name), Done, timeout_s=OWNER_TIMEOUT_S)
        return wire.SubscriptionResponse(success=True)

    async def tell(
        self,
        request: wire.SubscriptionRequest,
        question_of: Callable[[str, str], OwnerRequest],
        reply: type[Reply],
    ) -> Reply:
        """Ask the owner of a topic, or of its first partition, about a subscription. Raises DanubeError."""
        subscription = check_label(request.subscription, "subscription")
        topic = (await self.topics(request.topic))[0]
        question = question_of(topic.name, subscription)
        return await self._owners.ask(topic.home, question, reply, timeout_s=OWNER_TIMEOUT_S)
