"""Finds the topics whose subscriptions a call names, and asks their owners."""

from __future__ import annotations

from typing import Final, TypeVar

from danube_admin_service.api.errors import failure, topic_name
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import NotFound
from danube_common.rpc.port import StatusCode
from danube_common.wire.owner import OwnerReply, OwnerRequest
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

    async def ask(self, topic: Topic, request: OwnerRequest, reply: type[Reply]) -> Reply:
        """Ask the owner of a topic. Raises DanubeError."""
        return await self._owners.ask(topic.home, request, reply, timeout_s=OWNER_TIMEOUT_S)
