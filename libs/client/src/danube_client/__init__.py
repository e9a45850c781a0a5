"""Asynchronous Python client for Danube.

Example::

    import asyncio

    from danube_client import Reliable, connect


    async def main() -> None:
        async with connect("http://127.0.0.1:6650") as client:
            async with client.producer("/default/news", name="editor", strategy=Reliable()) as producer:
                await producer.send("good news")

            async with client.consumer("/default/news", "readers", name="reader-1") as consumer:
                async for message in consumer:
                    print(message.text)
                    await message.ack()
                    break


    asyncio.run(main())

The topic is reliable, so it keeps the message until the consumer has subscribed. A topic that a producer
creates without a strategy is non-reliable: subscriptions made after a message never receive it.
"""

from __future__ import annotations

from danube_client.client import Client, connect
from danube_client.consumer import Consumer, SubscriptionType
from danube_client.errors import (
    CallError,
    ClientError,
    Closed,
    Denied,
    InvalidAddress,
    InvalidRequest,
    InvalidTopicName,
    LimitReached,
    NotReady,
    ProducerExists,
    SubscribeDenied,
    SubscriptionNotFound,
    TopicNotFound,
    UnknownClient,
    Unreachable,
)
from danube_client.message import Message
from danube_client.producer import AccessMode, Producer
from danube_client.retry import Retry
from danube_client.schema import Schema, SchemaType
from danube_client.start import Start, StartKind
from danube_client.strategy import NonReliable, Reliable, Retention, Storage, Strategy

__all__ = [
    "AccessMode",
    "CallError",
    "Client",
    "ClientError",
    "Closed",
    "Consumer",
    "Denied",
    "InvalidAddress",
    "InvalidRequest",
    "InvalidTopicName",
    "LimitReached",
    "Message",
    "NonReliable",
    "NotReady",
    "Producer",
    "ProducerExists",
    "Reliable",
    "Retention",
    "Retry",
    "Schema",
    "SchemaType",
    "Start",
    "StartKind",
    "Storage",
    "Strategy",
    "SubscribeDenied",
    "SubscriptionNotFound",
    "SubscriptionType",
    "TopicNotFound",
    "UnknownClient",
    "Unreachable",
    "connect",
]
