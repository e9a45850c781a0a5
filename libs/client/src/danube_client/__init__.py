"""Asynchronous Python client for Danube.

Example::

    import asyncio

    from danube_client import connect


    async def main() -> None:
        async with connect("http://127.0.0.1:6650") as client:
            async with client.producer("/default/news") as producer:
                await producer.send("good news")

            async with client.consumer("/default/news", "readers") as consumer:
                async for message in consumer:
                    print(message.text)
                    await message.ack()
                    break


    asyncio.run(main())

A topic that a producer creates keeps its messages until every subscription has acknowledged them, so the
consumer reads what was sent before it subscribed. ``strategy=NonReliable()`` makes one that stores nothing.
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
    MessagesLost,
    NotReady,
    ProducerExists,
    SendTimeout,
    SubscribeDenied,
    SubscriptionNotFound,
    TopicDeleted,
    TopicNotFound,
    UnknownClient,
    Unreachable,
    Unsupported,
)
from danube_client.events import Assigned, Disconnected, EndOfBacklog, Event, Lost, Reconnected
from danube_client.failure_policy import Backoff, FailurePolicy, Poison
from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.producer import AccessMode, Producer
from danube_client.reader import Reader
from danube_client.retry import Retry
from danube_client.schema import Schema, SchemaType
from danube_client.start import Start, StartKind
from danube_client.strategy import NonReliable, Reliable, Retention, Storage, Strategy
from danube_client.stream.batch import BadBatch, Compression
from danube_client.tls import Tls
from danube_client.topic_info import Topic, TopicInfo

__all__ = [
    "AccessMode",
    "Assigned",
    "Backoff",
    "BadBatch",
    "CallError",
    "Client",
    "ClientError",
    "Closed",
    "Codec",
    "Compression",
    "Consumer",
    "Denied",
    "Disconnected",
    "EndOfBacklog",
    "Event",
    "FailurePolicy",
    "InvalidAddress",
    "InvalidRequest",
    "InvalidTopicName",
    "LimitReached",
    "Lost",
    "Message",
    "MessagesLost",
    "NonReliable",
    "NotReady",
    "Poison",
    "Producer",
    "ProducerExists",
    "Reader",
    "Reconnected",
    "Reliable",
    "Retention",
    "Retry",
    "Schema",
    "SchemaType",
    "SendTimeout",
    "Start",
    "StartKind",
    "Storage",
    "Strategy",
    "SubscribeDenied",
    "SubscriptionNotFound",
    "SubscriptionType",
    "Tls",
    "Topic",
    "TopicDeleted",
    "TopicInfo",
    "TopicNotFound",
    "UnknownClient",
    "Unreachable",
    "Unsupported",
    "connect",
]
