"""Checks permissions on topics that only an id names."""

from __future__ import annotations

from danube_common.rpc.port import Call
from danube_common.security.roles import Permission
from danube_gateway.consume.sessions import Sessions
from danube_gateway.publish.producers import Producers


async def require_produce(call: Call, producers: Producers, producer_id: int) -> None:
    """Return if the caller may produce on the producer's topic. Raises RpcError, NotFound, Unavailable."""
    producer = producers.known(producer_id) or await producers.find(producer_id)
    call.require(Permission.PRODUCE, producer.topic.name)


async def require_consume(call: Call, sessions: Sessions, consumer_id: int) -> None:
    """Return if the caller may consume the consumer's topic. Raises RpcError, NotFound, Unavailable."""
    call.require(Permission.CONSUME, await sessions.topic_of(consumer_id))
