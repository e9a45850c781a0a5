"""A stub gateway for tests of clients and tools: it keeps its state in memory and fails on demand.

It delivers each accepted message to every consumer of the topic and redelivers nothing. Behaviour of the
platform itself is tested against the platform.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

ANY_FREE_PORT = 0
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call fails: a status and, unless None, the type of the attached ErrorMessage.

    The call waits for ``gate`` first, or for the gate of its method if ``gate`` is None.
    """

    code: grpc.StatusCode
    error_type: wire.ErrorType | None = None
    message: str = "as scripted"
    gate: asyncio.Event | None = None


UNREACHABLE = Failure(grpc.StatusCode.UNAVAILABLE)
NOT_READY = Failure(grpc.StatusCode.UNAVAILABLE, wire.SERVICE_NOT_READY)


@dataclass(slots=True)
class Consumer:
    """A consumer that has subscribed, and what its stream is to send."""

    identity: int
    topic: str
    name: str
    subscription: str
    # None ends the stream with OK, a Failure with its status.
    outbox: asyncio.Queue[wire.StreamMessage | Failure | None] = field(default_factory=asyncio.Queue)


Context = grpc.aio.ServicerContext[Any, Any]


class StubGateway:
    """Serves the client contract on a free port of this machine.

    Attributes:
        schemas: the topics, with their schemas.
        accepted: the messages of each topic, in the order in which they were answered with OK.
        requests: every request by method name, in order of arrival, failed ones included.
        producers: ids by topic and name; after clearing it, no producer is known.
        consumers: consumers by topic, subscription and name.
        subscriptions: starts of the subscriptions created without a consumer, by topic and name.
        failures: the outcomes of a method's next calls; for None, or an empty queue, a call succeeds.
        lost: how many messages a subscription has lost, by topic and name.
        told: how many of them its consumers have reported to have told.
        prefetches: what each stream asked for.
        recreates: whether each CreateProducer may create a topic that was deleted.
        missing_topic: the type of the error of a CreateProducer that cannot create its topic.
        gates: a method's calls wait until its event is set; without one they do not wait.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, wire.Schema] = {}
        self.strategies: dict[str, wire.TopicDispatchStrategy] = {}
        self.accepted: defaultdict[str, list[wire.StreamMessage]] = defaultdict(list)
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.producers: dict[tuple[str, str], int] = {}
        self.consumers: dict[tuple[str, str, str], Consumer] = {}
        self.subscriptions: dict[tuple[str, str], platform.SubscriptionStart] = {}
        self.topic_ids: defaultdict[str, int] = defaultdict(self._identity)
        self.lost: dict[tuple[str, str], int] = {}
        self.told: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.prefetches: list[str | bytes | None] = []
        self.recreates: list[bool] = []
        self.missing_topic: wire.ErrorType | None = None
        self.failures: defaultdict[str, deque[Failure | None]] = defaultdict(deque)
        self.gates: dict[str, asyncio.Event] = {}
        self.redirect_to: str | None = None
        self.changed = asyncio.Condition()
        self._identities = 0
        self._deliveries = 0
        self._server: grpc.aio.Server | None = None
        self.port = ANY_FREE_PORT

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve on a free port; after ``stop``, on the same port again."""
        server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        )
        for service, methods in self._methods().items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after every request."""
        async with self.changed:
            await self.changed.wait_for(condition)

    def deliver(self, topic: str, payload: bytes, **fields: Any) -> None:
        """Deliver a message to every consumer of the topic."""
        message = wire.StreamMessage(payload=payload, msg_id=wire.MsgID(topic_name=topic), **fields)
        self._deliver(topic, message)

    def end_streams(self, how: Failure | None = None) -> None:
        for consumer in self.consumers.values():
            consumer.outbox.put_nowait(how)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic as the platform does: its producers and consumers are gone, its streams end."""
        self.schemas.pop(topic, None)
        self.strategies.pop(topic, None)
        self.topic_ids.pop(topic, None)
        for consumer in self.consumers.values():
            if consumer.topic == topic:
                consumer.outbox.put_nowait(None)
        self.consumers = {key: value for key, value in self.consumers.items() if key[0] != topic}
        self.producers = {key: value for key, value in self.producers.items() if key[0] != topic}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _methods(self) -> dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]:
        receive = grpc.unary_stream_rpc_method_handler(
            self._receive_messages,
            request_deserializer=wire.ReceiveRequest.FromString,
            response_serializer=wire.StreamMessage.SerializeToString,
        )
        return {
            "danube.ProducerService": {
                "CreateProducer": self._unary("CreateProducer", wire.ProducerRequest, self._create_producer),
                "SendMessage": self._unary("SendMessage", wire.StreamMessage, self._send_message),
            },
            "danube.ConsumerService": {
                "Subscribe": self._unary("Subscribe", wire.ConsumerRequest, self._subscribe),
                "ReceiveMessages": receive,
                "Ack": self._unary("Ack", wire.AckRequest, self._ack),
            },
            "danube_platform.Subscriptions": {
                "CreateSubscription": self._unary(
                    "CreateSubscription", platform.CreateSubscriptionRequest, self._create_subscription
                ),
                "TellLosses": self._unary("TellLosses", platform.TellLossesRequest, self._tell_losses),
            },
            "danube_platform.Topics": {
                "GetTopic": self._unary("GetTopic", platform.GetTopicRequest, self._get_topic),
            },
            "danube.Discovery": {
                "TopicLookup": self._unary("TopicLookup", wire.TopicLookupRequest, self._topic_lookup),
                "TopicPartitions": self._unary("TopicPartitions", wire.TopicLookupRequest, self._partitions),
                "GetSchema": self._unary("GetSchema", wire.SchemaRequest, self._get_schema),
            },
            "danube.HealthCheck": {
                "HealthCheck": self._unary("HealthCheck", wire.HealthCheckRequest, self._health_check),
            },
        }

    def _unary(
        self, method: str, request_type: type[Message], answer: Callable[[Any, Context], Awaitable[Message]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        async def handler(request: Any, context: Context) -> Message:
            await self._enter(method, request, context)
            response = await answer(request, context)
            async with self.changed:
                self.changed.notify_all()
            return response

        return grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=request_type.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    async def _enter(self, method: str, request: Any, context: Context) -> None:
        self.requests[method].append(request)
        # Taken on arrival, so that failures apply to calls in their order.
        failure = self.failures[method].popleft() if self.failures[method] else None
        async with self.changed:
            self.changed.notify_all()
        own_gate = None if failure is None else failure.gate
        if gate := own_gate or self.gates.get(method):
            await gate.wait()
        if failure is not None:
            await fail(context, failure)

    async def _create_producer(self, request: wire.ProducerRequest, context: Context) -> Message:
        self.recreates.append(dict(context.invocation_metadata() or ()).get("danube-recreate") == "true")
        if request.topic_name not in self.schemas and not request.HasField("schema"):
            await fail(
                context, Failure(grpc.StatusCode.INVALID_ARGUMENT, self.missing_topic, "no such topic")
            )
        self.schemas.setdefault(request.topic_name, request.schema)
        if request.HasField("dispatch_strategy"):
            self.strategies.setdefault(request.topic_name, request.dispatch_strategy)
        identity = self.producers.setdefault((request.topic_name, request.producer_name), self._identity())
        return wire.ProducerResponse(
            request_id=request.request_id, producer_id=identity, producer_name=request.producer_name
        )

    async def _send_message(self, request: wire.StreamMessage, context: Context) -> Message:
        topics = {identity: topic for (topic, _), identity in self.producers.items()}
        topic = topics.get(request.msg_id.producer_id)
        if topic is None:
            await fail(context, Failure(grpc.StatusCode.NOT_FOUND, message="producer not found"))
            raise AssertionError
        self.accepted[topic].append(request)
        self._deliver(topic, request)
        return wire.MessageResponse(request_id=request.request_id, sequence_id=request.msg_id.sequence_id)

    async def _create_subscription(
        self, request: platform.CreateSubscriptionRequest, _context: Context
    ) -> Message:
        key = (request.topic, request.subscription)
        created = key not in self.subscriptions
        self.subscriptions.setdefault(key, request.start)
        return platform.CreateSubscriptionResponse(created=created)

    async def _tell_losses(self, request: platform.TellLossesRequest, _context: Context) -> Message:
        key = (request.topic, request.subscription)
        lost = self.lost.get(key, 0)
        self.told[key] = max(self.told[key], min(request.told, lost))
        return platform.TellLossesResponse(lost=lost, told=self.told[key])

    async def _get_topic(self, request: platform.GetTopicRequest, context: Context) -> Message:
        if request.topic not in self.schemas:
            await fail(
                context, Failure(grpc.StatusCode.INVALID_ARGUMENT, wire.TOPIC_NOT_FOUND, "no such topic")
            )
        strategy = self.strategies.get(request.topic)
        of_topic = [consumer for consumer in self.consumers.values() if consumer.topic == request.topic]
        return platform.GetTopicResponse(
            topic_id=self.topic_ids[request.topic],
            reliable=strategy is None or strategy.strategy == wire.Reliable,
            subscriptions=len({consumer.subscription for consumer in of_topic}),
            consumers=len(of_topic),
        )

    async def _subscribe(self, request: wire.ConsumerRequest, context: Context) -> Message:
        if request.topic_name not in self.schemas:
            await fail(
                context, Failure(grpc.StatusCode.INVALID_ARGUMENT, wire.TOPIC_NOT_FOUND, "no such topic")
            )
        key = (request.topic_name, request.subscription, request.consumer_name)
        if key not in self.consumers:
            self.consumers[key] = Consumer(
                self._identity(), request.topic_name, request.consumer_name, request.subscription
            )
        return wire.ConsumerResponse(
            request_id=request.request_id,
            consumer_id=self.consumers[key].identity,
            consumer_name=request.consumer_name,
        )

    async def _receive_messages(
        self, request: wire.ReceiveRequest, context: Context
    ) -> AsyncIterator[wire.StreamMessage]:
        metadata = dict(context.invocation_metadata() or ())
        self.prefetches.append(metadata.get("danube-prefetch"))
        await self._enter("ReceiveMessages", request, context)
        consumer = next((c for c in self.consumers.values() if c.identity == request.consumer_id), None)
        if consumer is None:
            await fail(context, Failure(grpc.StatusCode.NOT_FOUND, message="consumer not found"))
            raise AssertionError
        while True:
            message = await consumer.outbox.get()
            if isinstance(message, Failure):
                await fail(context, message)
            elif message is None:
                return
            else:
                yield message

    async def _ack(self, request: wire.AckRequest, _context: Context) -> Message:
        return wire.AckResponse(request_id=request.request_id)

    async def _topic_lookup(self, request: wire.TopicLookupRequest, context: Context) -> Message:
        if request.topic not in self.schemas:
            await fail(
                context, Failure(grpc.StatusCode.INVALID_ARGUMENT, wire.TOPIC_NOT_FOUND, "no such topic")
            )
        kind = wire.TopicLookupResponse.Redirect if self.redirect_to else wire.TopicLookupResponse.Connect
        return wire.TopicLookupResponse(
            request_id=request.request_id,
            response_type=kind,
            brokerServiceUrl=self.redirect_to or self.address,
        )

    async def _partitions(self, request: wire.TopicLookupRequest, _context: Context) -> Message:
        prefix = f"{request.topic}-part-"
        topics = [topic for topic in self.schemas if topic == request.topic or topic.startswith(prefix)]
        return wire.TopicPartitionsResponse(request_id=request.request_id, partitions=topics)

    async def _get_schema(self, request: wire.SchemaRequest, context: Context) -> Message:
        for topic, schema in self.schemas.items():
            if topic == request.topic or topic.startswith(f"{request.topic}-part-"):
                return wire.SchemaResponse(request_id=request.request_id, schema=schema)
        await fail(context, Failure(grpc.StatusCode.NOT_FOUND, wire.TOPIC_NOT_FOUND, "no such topic"))
        raise AssertionError

    async def _health_check(self, request: wire.HealthCheckRequest, _context: Context) -> Message:
        known = (
            self.producers.values()
            if request.client == wire.HealthCheckRequest.Producer
            else [consumer.identity for consumer in self.consumers.values()]
        )
        status = wire.HealthCheckResponse.OK if request.id in known else wire.HealthCheckResponse.CLOSE
        return wire.HealthCheckResponse(status=status)

    def _deliver(self, topic: str, message: wire.StreamMessage) -> None:
        for consumer in self.consumers.values():
            if consumer.topic == topic:
                self._deliveries += 1
                delivery = wire.StreamMessage()
                delivery.CopyFrom(message)
                delivery.request_id = self._deliveries
                delivery.subscription_name = consumer.subscription
                consumer.outbox.put_nowait(delivery)

    def _identity(self) -> int:
        self._identities += 1
        return self._identities


async def fail(context: Context, failure: Failure) -> None:
    """End the call as the gateway does: with a status and an attached ErrorMessage."""
    trailers: tuple[tuple[str, bytes], ...] = ()
    if failure.error_type is not None:
        attached = wire.ErrorMessage(error_type=failure.error_type, error_message=failure.message)
        trailers = (("error-message-bin", attached.SerializeToString()),)
    await context.abort(failure.code, failure.message, trailers)
