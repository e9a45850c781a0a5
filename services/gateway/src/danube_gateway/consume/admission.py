"""Creates consumers at the owners of their topics, for every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import Refused
from danube_common.model.subscription import SubscriptionType, check_key_filters
from danube_common.wire.owner.sessions import ConsumerFound, CreateConsumer
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
    key_filters: Iterable[str] = (),
) -> ConsumerFound:
    """Create a consumer of ``topic``, and its subscription if it is missing.

    ``peer`` is the address of the client's connection. ``key_filters`` are globs of the keys that a consumer
    of a key-shared subscription takes.

    Raises InvalidInput (the filters), Refused (the subscription is of another type or taken), LimitExceeded,
    NotFound, Unavailable.
    """
    filters = check_key_filters(kind, tuple(key_filters))
    creation = CreateConsumer(topic.name, subscription, kind, name, sessions.client(peer), filters)
    try:
        return await owners.ask(topic.home, creation)
    except Refused:
        if kind is not SubscriptionType.EXCLUSIVE:
            raise
    await asyncio.sleep(LEAVING_S)
    await sessions.until_detached(topic.home, topic.name, subscription)
    return await owners.ask(topic.home, creation)
