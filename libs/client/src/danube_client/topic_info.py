"""Facts about a topic, from the platform's call `GetTopic`, which v0.2 brokers lack."""

from __future__ import annotations

from dataclasses import dataclass

from danube_client.connection import Connection
from danube_client.errors import CallError
from danube_proto import danube_platform_pb2 as platform


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic or partition at one moment.

    Attributes:
        topic: its name.
        topic_id: identifies it; a topic that is created again after it was deleted has another id.
        reliable: whether it stores its messages.
        subscriptions: how many it has.
        consumers: how many have an open stream, of all subscriptions together.
    """

    topic: str
    topic_id: int
    reliable: bool
    subscriptions: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic in a list.

    Attributes:
        name: ``/namespace/topic``.
        partitions: how many it has; 0 for a topic without partitions.
        reliable: whether it stores its messages.
    """

    name: str
    partitions: int
    reliable: bool


async def topic_info(connection: Connection, topic: str) -> TopicInfo | None:
    """Ask for the facts of a topic; None if the platform does not offer the call.

    Raises:
        TopicNotFound: the topic does not exist.
        CallError: the call failed.
    """
    try:
        answer = await connection.get_topic(platform.GetTopicRequest(topic=topic))
    except CallError as error:
        if error.unimplemented:
            return None
        raise
    return TopicInfo(topic, answer.topic_id, answer.reliable, answer.subscriptions, answer.consumers)
