"""What a client asks about topics: which there are, their facts, schemas, subscriptions and policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from danube_client.connection import Connection, Connections
from danube_client.consumer import SubscriptionType
from danube_client.errors import ELSEWHERE, RECOVERABLE, CallError, TopicNotFound, Unsupported
from danube_client.failure_policy import FailurePolicy
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.start import Start
from danube_client.topic_info import Topic, TopicInfo, topic_info
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as api

T = TypeVar("T")


class TopicCalls:
    """Asks about topics, at another gateway if the first one is away."""

    def __init__(self, connections: Connections, retry: Retry) -> None:
        self._connections = connections
        self._retry = retry

    async def topics(self, pattern: str = "/default/*") -> list[Topic]:
        """Return the topics that match, by name; a partitioned topic is one of them.

        Args:
            pattern: ``/namespace/glob`` with ``*`` and ``?``, or a namespace.

        Raises:
            TopicNotFound: there is no such namespace.
            Unsupported: the platform has no native streaming.
            CallError: the platform refused, or was not ready within the retries.
        """
        request = api.ListTopicsRequest(pattern=pattern)
        answer = await self._ask_streaming(
            lambda connection: connection.list_topics(request), "listing topics"
        )
        return [Topic(topic.topic, topic.partitions, topic.reliable) for topic in answer.topics]

    async def create_subscription(
        self,
        topic: str,
        subscription: str,
        *,
        type: SubscriptionType = SubscriptionType.SHARED,  # noqa: A002 - the word of the domain
        initial_position: Start | None = None,
        prefetch: int = 0,
    ) -> bool:
        """Create a subscription without a consumer, of the topic or of each of its partitions.

        Args:
            topic: ``/namespace/topic``.
            subscription: the subscription's name.
            type: how it will share messages among its consumers.
            initial_position: where it begins; None is at the oldest message.
            prefetch: how many unacknowledged messages each of its consumers takes at once that asks for no
                prefetch of its own, as the official clients do. 0 is as many as the platform allows.

        Returns:
            Whether it is new. An existing subscription stays as it is.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """

        async def create(part: str) -> bool:
            request = platform.CreateSubscriptionRequest(
                topic=part,
                subscription=subscription,
                type=platform.CreateSubscriptionRequest.Type.Name(int(type)),
                start=None if initial_position is None else initial_position.to_wire(),
                prefetch=prefetch,
            )
            return (await self._ask(lambda connection: connection.create_subscription(request))).created

        return all([await create(part) for part in await self.partitions(topic)])

    async def set_failure_policy(self, topic: str, subscription: str, policy: FailurePolicy) -> None:
        """Say what a subscription does with messages that its consumers fail to process.

        It holds from now on, also for what failed before, and for all consumers of the subscription.
        Partitions get it one after the other.

        Args:
            topic: ``/namespace/topic``, which is reliable; a partitioned topic stands for all its partitions.
            subscription: an existing subscription.
            policy: its policy from now on.

        Raises:
            TopicNotFound, SubscriptionNotFound: it does not exist.
            InvalidRequest: the policy is none that the subscription can have.
            Denied: the topic is not reliable, or the client may not produce on the dead-letter topic.
            Unsupported: the platform speaks v0.2 only, or is older than this call.
        """

        async def set_one(part: str) -> None:
            request = platform.SetFailurePolicyRequest(
                topic=part, subscription=subscription, policy=policy.to_wire()
            )
            await self._ask_streaming(
                lambda connection: connection.set_failure_policy(request), "failure policies"
            )

        for part in await self.partitions(topic):
            await set_one(part)

    async def failure_policy(self, topic: str, subscription: str) -> FailurePolicy:
        """Return the failure policy of a subscription; of a partitioned topic, that of its first partition.

        Raises:
            TopicNotFound, SubscriptionNotFound: it does not exist.
            Denied: the topic is not reliable.
            Unsupported: the platform speaks v0.2 only, or is older than this call.
        """
        part = (await self.partitions(topic))[0]
        request = platform.GetFailurePolicyRequest(topic=part, subscription=subscription)
        answer = await self._ask_streaming(
            lambda connection: connection.get_failure_policy(request), "failure policies"
        )
        return FailurePolicy.from_wire(answer.policy)

    async def partitions(self, topic: str) -> list[str]:
        """Return the topic itself if it exists, else the names of its partitions.

        Raises:
            TopicNotFound: neither exists.
            CallError: the platform refuses, or did not become ready within the retries.
        """
        if not (existing := await self._existing(topic)):
            raise TopicNotFound("NOT_FOUND", f"there is no topic {topic}")
        return existing

    async def describe(self, topic: str) -> list[TopicInfo]:
        """Return the facts of a topic or of each of its partitions; none from a broker of v0.2.

        Raises:
            TopicNotFound: no such topic exists.
            CallError: the platform refused, or was not ready within the retries.
        """
        found: list[TopicInfo] = []
        for part in await self.partitions(topic):
            info = await self._ask(partial(topic_info, topic=part))
            if info is not None:
                found.append(info)
        return found

    async def _existing(self, topic: str) -> list[str]:
        request = wire.TopicLookupRequest(topic=topic)
        response = await self._ask(lambda connection: connection.topic_partitions(request))
        return list(response.partitions)

    async def schema(self, topic: str) -> Schema:
        """Return the schema of a topic or of its partitions.

        Raises:
            TopicNotFound: no such topic exists.
            CallError: the platform refused, or was not ready within the retries.
        """
        request = wire.SchemaRequest(topic=topic)
        response = await self._ask(lambda connection: connection.get_schema(request))
        return Schema.from_wire(response.schema)

    async def _ask_streaming(self, question: Callable[[Connection], Awaitable[T]], what: str) -> T:
        try:
            return await self._ask(question)
        except CallError as error:
            if error.unimplemented:
                raise Unsupported.by(self._connections.home.address, what, error.message) from None
            raise

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        async def attempt() -> T:
            connection = self._connections.home
            try:
                return await question(connection)
            except ELSEWHERE:
                self._connections.after(connection)
                raise

        return await self._retry.run(attempt, on=RECOVERABLE)
