"""The platform in memory: the real client on top of a model, for unit tests without a server."""

from __future__ import annotations

import fnmatch
from typing import cast

from danube_client.client import CALL_TIMEOUT_S, Client
from danube_client.connection import Connection, Connections
from danube_client.consumer import SubscriptionType
from danube_client.errors import Closed, Denied, InvalidRequest, SubscriptionNotFound
from danube_client.failure_policy import FailurePolicy, Poison
from danube_client.retry import Retry
from danube_client.start import StartKind
from danube_client.testing.memory_streams import (
    ADDRESS,
    Consuming,
    Hub,
    MemoryReading,
    MemoryStream,
    Publishing,
)
from danube_client.testing.model import Subscription, Topic
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as api


class MemoryConnection:
    """What a client asks of `danube_client.connection.Connection`."""

    address = ADDRESS

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def publish(self) -> MemoryStream:
        """Open the stream of a producer."""
        stream = MemoryStream()
        stream.session = Publishing(self._hub, stream)
        return stream

    def consume(self) -> MemoryStream:
        """Open the stream of a consumer."""
        stream = MemoryStream()
        stream.session = Consuming(self._hub, stream)
        return stream

    def read(self, request: api.ReadRequest) -> MemoryReading:
        """Open the stream of a reading; raises TopicNotFound."""
        return MemoryReading(self._hub, request)

    async def describe_topic(self, request: api.DescribeTopicRequest) -> api.DescribeTopicResponse:
        """Tell whether a topic exists, and its partitions."""
        parts = self._hub.parts(request.topic)
        return api.DescribeTopicResponse(
            exists=bool(parts),
            topics=[api.TopicBounds(topic=topic.name, topic_id=topic.topic_id) for topic in parts],
            partitioned=request.topic in self._hub.partitions,
            reliable=bool(parts) and parts[0].reliable,
        )

    async def list_topics(self, request: api.ListTopicsRequest) -> api.ListTopicsResponse:
        """List topics by namespace or pattern."""
        pattern = request.pattern
        if "/" not in pattern.strip("/"):
            pattern = f"/{pattern.strip('/')}/*"
        partitions = self._hub.partitions
        inner = {name for names in partitions.values() for name in names}
        names = [*(name for name in self._hub.topics if name not in inner), *partitions]
        return api.ListTopicsResponse(
            topics=[
                api.ListedTopic(
                    topic=name,
                    partitions=len(partitions.get(name, ())),
                    reliable=self._hub.parts(name)[0].reliable,
                )
                for name in sorted(names)
                if fnmatch.fnmatchcase(name, pattern)
            ]
        )

    async def topic_partitions(self, request: wire.TopicLookupRequest) -> wire.TopicPartitionsResponse:
        """Tell the partitions of a topic."""
        return wire.TopicPartitionsResponse(
            partitions=[topic.name for topic in self._hub.parts(request.topic)]
        )

    async def get_schema(self, request: wire.SchemaRequest) -> wire.SchemaResponse:
        """Tell the schema of a topic."""
        return wire.SchemaResponse(schema=self._hub.found(request.topic)[0].schema.to_wire())

    async def get_topic(self, request: platform.GetTopicRequest) -> platform.GetTopicResponse:
        """Tell who uses a topic."""
        (topic,) = self._hub.found(request.topic)
        return platform.GetTopicResponse(
            topic_id=topic.topic_id,
            reliable=topic.reliable,
            subscriptions=len(topic.subscriptions),
            consumers=sum(len(one.members) for one in topic.subscriptions.values()),
        )

    async def create_subscription(
        self, request: platform.CreateSubscriptionRequest
    ) -> platform.CreateSubscriptionResponse:
        """Create a subscription without a consumer."""
        (topic,) = self._hub.found(request.topic)
        created = topic.subscribe(
            request.subscription,
            SubscriptionType(int(request.type)),
            StartKind(int(request.start.kind)),
            request.start.value,
        )
        return platform.CreateSubscriptionResponse(created=created)

    async def set_failure_policy(
        self, request: platform.SetFailurePolicyRequest
    ) -> platform.FailurePolicyResponse:
        """Give a subscription a failure policy."""
        topic, subscription = self._subscription(request.topic, request.subscription)
        policy = FailurePolicy.from_wire(request.policy)
        base = topic.name.partition("-part-")[0]
        if policy.dead_letter_topic in (topic.name, base):
            raise InvalidRequest("INVALID_ARGUMENT", "the subscription would read its dead letters")
        if policy.poison is Poison.DEAD_LETTER and not policy.dead_letter_topic:
            raise InvalidRequest("INVALID_ARGUMENT", "dead letters need a dead_letter_topic")
        self._hub.bury(topic, request.subscription, subscription.set_policy(policy))
        self._hub.changed()
        return platform.FailurePolicyResponse(policy=request.policy)

    async def get_failure_policy(
        self, request: platform.GetFailurePolicyRequest
    ) -> platform.FailurePolicyResponse:
        """Tell the failure policy of a subscription: the default one if none was set."""
        _, subscription = self._subscription(request.topic, request.subscription)
        return platform.FailurePolicyResponse(policy=(subscription.policy or FailurePolicy()).to_wire())

    def _subscription(self, topic: str, name: str) -> tuple[Topic, Subscription]:
        (found,) = self._hub.found(topic)
        if not found.reliable:
            raise Denied("PERMISSION_DENIED", f"{topic} is not reliable")
        if name not in found.subscriptions:
            raise SubscriptionNotFound("NOT_FOUND", f"{topic} has no subscription {name}")
        return found, found.subscriptions[name]


class MemoryConnections(Connections):
    """The only connection of a client of a `MemoryPlatform`."""

    def __init__(self, connection: MemoryConnection) -> None:
        super().__init__([f"{ADDRESS}:1"], CALL_TIMEOUT_S)
        # It answers what a client asks of one with native streaming.
        self._only = cast("Connection", connection)

    @property
    def home(self) -> Connection:
        """The connection."""
        if self._closed:
            raise Closed("the client is closed")
        return self._only

    def after(self, _lost: Connection) -> Connection:
        """Return the connection: there is no other."""
        return self.home

    async def ready(self, _timeout_s: float) -> None:
        """Do nothing: it is there."""
        return


class MemoryPlatform:
    """A platform in this process: topics, subscriptions of all types, partitions, acknowledgements.

    Clients of it are real ones, `danube_client.Client`, that talk to a model instead of a server. It belongs
    to one event loop, keeps every message until it is forgotten, checks int64, string and JSON payloads but
    no JSON Schema, and has no limits, acknowledgement timeouts or failures. Until a failure policy is set,
    what fails comes again at once.

    Example::

        platform = MemoryPlatform()
        async with platform.client() as client:
            async with client.producer("/default/orders") as producer:
                await producer.send("tea")
    """

    def __init__(self) -> None:
        self._hub = Hub()

    def client(self, *, retry: Retry | None = None) -> Client:
        """Return a client of this platform; ``async with`` or ``await`` opens it."""
        connections = MemoryConnections(MemoryConnection(self._hub))
        return Client(connections, retry or Retry())
