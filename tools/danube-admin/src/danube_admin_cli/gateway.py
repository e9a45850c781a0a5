"""Calls to a gateway, for commands that read and publish messages as a client does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from danube_admin_cli.admin import Call, open_channel
from danube_admin_cli.outcome import FAILED, UNREACHABLE, give_up
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from danube_client.tls import Tls

Response = TypeVar("Response", bound="Message")

TIMEOUT_S = 30.0
DETACH_S_MAX = 5.0
POLL_INTERVAL_S = 0.1
CONSUMER = "danube-admin"


class Gateway:
    """A connection to a gateway. A call that fails ends the command with an error that says why."""

    def __init__(self, channel: grpc.Channel, call: Call) -> None:
        self._channel = channel
        self._admin = call

    def call(self, method: str, request: Message, answer: type[Response]) -> Response:
        """Call a method of the client port by its full name."""
        import grpc  # noqa: PLC0415 - slow to import, help needs nothing of it

        function = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return function(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            give_up(error.details() or error.code().name, FAILED)

    def topics(self, name: str) -> list[str]:
        """Return the topic of a name, or its partitions."""
        request = api.TopicLookupRequest(topic=name)
        answer = self.call("/danube.Discovery/TopicPartitions", request, api.TopicPartitionsResponse)
        if not answer.partitions:
            give_up(f"topic {name} does not exist")
        return list(answer.partitions)

    def read(self, topic: str, subscription: str, limit: int) -> Iterator[api.StreamMessage]:
        """Yield the messages that wait now in a subscription, which is created if it is missing."""
        import grpc  # noqa: PLC0415 - as above

        request = api.ConsumerRequest(topic_name=topic, consumer_name=CONSUMER, subscription=subscription)
        consumer = self.call("/danube.ConsumerService/Subscribe", request, api.ConsumerResponse)
        count = min(self._backlog(topic, subscription), limit)
        if not count:
            return
        receive = self._channel.unary_stream(
            "/danube.ConsumerService/ReceiveMessages",
            request_serializer=api.ReceiveRequest.SerializeToString,
            response_deserializer=api.StreamMessage.FromString,
        )
        stream = receive(api.ReceiveRequest(consumer_id=consumer.consumer_id))
        try:
            for _ in range(count):
                yield next(stream)
        except StopIteration:
            give_up(f"the stream of {topic} ended")
        except grpc.RpcError as error:
            give_up(error.details() or error.code().name, FAILED)
        finally:
            stream.cancel()

    def acknowledge(self, message: api.StreamMessage, subscription: str) -> None:
        """Acknowledge a message that `read` yielded."""
        request = api.AckRequest(
            request_id=message.request_id, msg_id=message.msg_id, subscription_name=subscription
        )
        self.call("/danube.ConsumerService/Ack", request, api.AckResponse)

    def unsubscribe(self, topic: str, subscription: str) -> None:
        """Delete a subscription as soon as its stream is detached."""
        deadline = time.monotonic() + DETACH_S_MAX
        while self._consumers(topic, subscription) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        request = admin.SubscriptionRequest(topic=topic, subscription=subscription)
        self._admin("/danube_admin.TopicAdmin/Unsubscribe", request, admin.SubscriptionResponse)

    def _backlog(self, topic: str, subscription: str) -> int:
        return sum(one.backlog for one in self._described(topic) if one.name == subscription)

    def _consumers(self, topic: str, subscription: str) -> int:
        return sum(len(one.consumers) for one in self._described(topic) if one.name == subscription)

    def _described(self, topic: str) -> list[platform.SubscriptionDescription]:
        answer = self._admin(
            "/danube_platform.TopicDetails/DescribeTopic",
            platform.DescribeTopicRequest(topic=topic),
            platform.DescribeTopicResponse,
        )
        if problem := answer.topics[0].owner_problem:
            give_up(f"the messages of {topic} cannot be counted: {problem}", UNREACHABLE)
        return list(answer.topics[0].subscriptions)


@contextmanager
def gateway(call: Call, url: str | None, security: Tls | None) -> Iterator[Gateway]:
    """Open a connection to the gateway at ``url``, or to one that the admin service knows."""
    if url is None:
        answer = call(
            "/danube_platform.Instances/ListInstances",
            platform.ListInstancesRequest(),
            platform.ListInstancesResponse,
        )
        found = [each.address for each in answer.instances if each.kind == "gateway"]
        if not found:
            give_up("no gateway is running", UNREACHABLE)
        url = found[0]
    with open_channel(url, security, "a gateway", bytes_max=-1) as channel:
        yield Gateway(channel, call)
