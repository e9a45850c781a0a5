"""Creates consumers at the owners of their topics, for every dialect."""

from __future__ import annotations

import asyncio
from typing import Final

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import Refused
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner import ConsumerFound, CreateConsumer
from danube_gateway.consume.sessions import Sessions

LEAVING_S: Final = 0.1
"""An exclusive subscription that is taken is asked for once more after this time: its consumer may have left
a moment ago, and its gateway has not told the owner."""


async def create_consumer(
    owners: OwnerClient,
    sessions: Sessions,
    topic: Topic,
    subscription: str,
    kind: SubscriptionType,
    name: str,
    peer: str,
) -> ConsumerFound:
    """Create a consumer of ``topic``, and its subscription if it is missing.

    ``peer`` is the address of the client's connection. Raises Refused (the subscription is of another type or
    taken), LimitExceeded, NotFound, Unavailable.
    """
    creation = CreateConsumer(topic.name, subscription, kind, name, sessions.client(peer))
    try:
        return await owners.ask(topic.home, creation, ConsumerFound)
    except Refused:
        if kind is not SubscriptionType.EXCLUSIVE:
            raise
    await asyncio.sleep(LEAVING_S)
    await sessions.until_detached(topic.home, topic.name, subscription)
    return await owners.ask(topic.home, creation, ConsumerFound)
