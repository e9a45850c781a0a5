"""The topics that a request names.

The status of a name that is none is NOT_FOUND for clients of v0.2, and INVALID_ARGUMENT for all others.
"""

from __future__ import annotations

from danube_admin_service.api.errors import failure
from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidName, NotFound
from danube_common.model.names import TopicName
from danube_common.rpc.port import StatusCode
from danube_proto.danube_api_pb2 import INVALID_TOPIC_NAME, TOPIC_NOT_FOUND


def topic_name(text: str, *, code: StatusCode = StatusCode.INVALID_ARGUMENT) -> TopicName:
    """Parse the topic name of a request; raises RpcError with ``code`` and type INVALID_TOPIC_NAME."""
    try:
        return TopicName.parse(text)
    except InvalidName as error:
        raise failure(str(error), INVALID_TOPIC_NAME, code=code) from None


async def named_topics(
    topics: Topics, text: str, *, code: StatusCode = StatusCode.INVALID_ARGUMENT
) -> list[Topic]:
    """Return the topic that a request names, or its partitions; raises RpcError as `topic_name` does."""
    name = topic_name(text, code=code)
    try:
        return await topics.named(name)
    except NotFound as error:
        raise failure(str(error), TOPIC_NOT_FOUND) from None
