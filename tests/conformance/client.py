"""A client that does nothing by itself: one call per call, bytes checked strictly on their way in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import grpc.aio
from grpc.aio import EOF
from tests.conformance.strict import decode
from tests.conformance.stubs import danube, danube_admin, danube_platform
from tests.conformance.tables import CURRENT_METHODS, METHODS, STREAM

DEADLINE_S = 20.0
RETRY_INTERVAL_S = 0.05
"""No call of these tests takes this long; it turns a hang into a failure."""

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)
ERROR_TRAILER = "error-message-bin"

NON_RELIABLE, RELIABLE = 0, 1
EXCLUSIVE, SHARED, FAILOVER = 0, 1, 2
BYTES, STRING, INT64, JSON = 0, 1, 2, 3
PRODUCER, CONSUMER = 0, 1
OK, CLOSE = 0, 1
IN_MEMORY, DISK = 0, 1
RETAIN_UNTIL_ACK, RETAIN_UNTIL_EXPIRE = 0, 1
UNKNOWN_ERROR, INVALID_TOPIC_NAME, TOPIC_NOT_FOUND, SERVICE_NOT_READY = 0, 1, 2, 3
PRODUCER_ALREADY_EXISTS, SUBSCRIBE_PERMISSION_DENIED, SUBSCRIPTION_NOT_FOUND = 4, 5, 6

PLATFORM_METHODS = {
    f"/danube_platform.PolicyAdmin/{method}": (request, "PoliciesResponse")
    for method, request in (
        ("SetNamespacePolicies", "SetNamespacePoliciesRequest"),
        ("GetTopicPolicies", "GetTopicPoliciesRequest"),
        ("SetTopicPolicies", "SetTopicPoliciesRequest"),
    )
}
FULL_NAMES = {name.rpartition("/")[2]: name for name in (*CURRENT_METHODS, *METHODS, *PLATFORM_METHODS)}


class Refusal(Exception):
    """A call that ended with a status."""

    def __init__(self, method: str, error: grpc.aio.AioRpcError) -> None:
        self.code: str = error.code().name
        self.message: str = error.details() or ""
        trailers = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
        attached = trailers.get(ERROR_TRAILER)
        self.error: Any = None
        if isinstance(attached, bytes):
            self.error = decode("danube.ErrorMessage", attached)
        super().__init__(f"{method}: {self.code} {self.message!r} {trailers}")

    @property
    def error_type(self) -> int:
        """The type in the attached ``ErrorMessage``."""
        assert self.error is not None, f"no {ERROR_TRAILER}: {self}"
        return int(self.error.error_type)


def response_name(full_name: str) -> str:
    """The full name of the answer of a method, by the table of the contract."""
    package = full_name[1:].partition(".")[0]
    response = {**CURRENT_METHODS, **METHODS, **PLATFORM_METHODS}[full_name][1]
    return f"{package}.{response.removeprefix('stream ')}"


def encoded(request: Any) -> bytes:
    """The bytes of a request; bytes stay as they are."""
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())


class Caller:
    """One connection."""

    def __init__(self, addr: str, receive_bytes_max: int = -1) -> None:
        self.addr = addr
        options = [*OPTIONS[1:], ("grpc.max_receive_message_length", receive_bytes_max)]
        self._channel = grpc.aio.insecure_channel(addr, options=options)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def call(self, method: str, request: Any, *, timeout_s: float = DEADLINE_S) -> Any:
        """Call by the method's short name; returns the decoded answer, raises Refusal."""
        full_name = FULL_NAMES[method]
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(full_name, None, None)
        try:
            answer = await call(encoded(request), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise Refusal(method, error) from None
        return decode(response_name(full_name), answer)

    async def refused(self, method: str, request: Any) -> Refusal:
        """The refusal of a call that must be refused."""
        try:
            answer = await self.call(method, request)
        except Refusal as refusal:
            check_refusal(method, refusal)
            return refusal
        raise AssertionError(f"{method} accepted what it must refuse: {answer}")


def check_refusal(method: str, refusal: Refusal) -> None:
    """What holds for every refusal: a sentence, and on the client port the machine-readable error."""
    assert refusal.message, f"no message: {refusal}"
    assert refusal.code not in {"UNKNOWN", "DEADLINE_EXCEEDED"}, str(refusal)
    if not FULL_NAMES[method].startswith("/danube."):
        return
    assert refusal.error is not None, f"no {ERROR_TRAILER}: {refusal}"
    assert refusal.error.error_message, f"empty error_message: {refusal}"
    assert refusal.error.redirect_to == "", str(refusal)
    if refusal.error_type == SERVICE_NOT_READY:
        assert refusal.code == "UNAVAILABLE", f"clients would retry for ever: {refusal}"


class Stream:
    """One ReceiveMessages call. Reads only when asked to, so that a test can be slow on purpose."""

    def __init__(self, channel: grpc.aio.Channel, request: bytes) -> None:
        receive: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM, None, None)
        self._call = receive(request)
        self._reading: asyncio.Task[Any] | None = None

    async def opened(self) -> None:
        """Wait for the response headers; official clients do so before they go on."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._call.initial_metadata()
            if self._call.done() and await self._call.code() is not grpc.StatusCode.OK:
                await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise Refusal("ReceiveMessages", error) from None

    async def next(self, *, timeout_s: float = DEADLINE_S) -> Any:
        """The next message; raises TimeoutError, Refusal, or StopAsyncIteration at a normal end.

        A message that comes after the time-out is kept for the next call.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        done, _ = await asyncio.wait({self._reading}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"no message within {timeout_s} s")
        reading, self._reading = self._reading, None
        received = reading.result()
        if received is EOF:
            raise StopAsyncIteration
        return received

    async def _read(self) -> Any:
        try:
            received = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise Refusal("ReceiveMessages", error) from None
        return decode("danube.StreamMessage", received) if isinstance(received, bytes) else EOF

    async def take(self, count: int) -> list[Any]:
        """The next ``count`` messages."""
        return [await self.next() for _ in range(count)]

    async def silent_for(self, duration_s: float) -> bool:
        """Whether nothing arrives for a while; only for what must not come although it could."""
        try:
            await self.next(timeout_s=duration_s)
        except TimeoutError:
            return True
        return False

    async def ended(self) -> None:
        """Wait until the server ends the stream; messages before the end are passed over."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await self.next()
        except StopAsyncIteration:
            return
        except Refusal as refusal:
            check_refusal("ReceiveMessages", refusal)

    async def cancel(self) -> None:
        """The client goes away."""
        self._end()
        if self._reading is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self._reading})
                self._reading.exception()
            self._reading = None

    def _end(self) -> None:
        self._call.cancel()


def strategy(reliable: bool, **options: int) -> Any:
    """``options`` are fields of ReliableOptions; without any, the command line's defaults."""
    if not reliable:
        return danube.TopicDispatchStrategy(strategy=NON_RELIABLE)
    given = {
        "segment_size": 20,
        "storage_backend": DISK,
        "retention_policy": RETAIN_UNTIL_EXPIRE,
        "retention_period": 3600,
        **options,
    }
    return danube.TopicDispatchStrategy(strategy=RELIABLE, reliable_options=danube.ReliableOptions(**given))


def producer_request(topic: str, name: str = "producer", **fields: Any) -> Any:
    """Complete; a field given as None is left out."""
    given = {
        "producer_name": name,
        "topic_name": topic,
        "schema": danube.Schema(name="string_schema", type_schema=STRING),
        "dispatch_strategy": strategy(reliable=False),
        **fields,
    }
    return danube.ProducerRequest(**{key: value for key, value in given.items() if value is not None})


def consumer_request(
    topic: str, subscription: str, consumer: str = "consumer", kind: int = EXCLUSIVE, **fields: Any
) -> Any:
    """A request of Subscribe; ``fields`` are those of ConsumerRequest."""
    return danube.ConsumerRequest(
        topic_name=topic,
        subscription=subscription,
        consumer_name=consumer,
        subscription_type=kind,
        **fields,
    )


class Producer:
    """Numbers its messages as the Rust client does."""

    def __init__(self, client: Client, topic: str, name: str, producer_id: int) -> None:
        self.topic = topic
        self.name = name
        self.producer_id = producer_id
        self.request_id = 0
        self.sequence_id = 0
        self._client = client

    def message(self, payload: bytes | str, **fields: Any) -> Any:
        """The next message; ``fields`` are those of StreamMessage."""
        self.request_id += 1
        message = danube.StreamMessage(
            request_id=self.request_id,
            msg_id=danube.MsgID(
                sequence_id=self.sequence_id,
                producer_id=self.producer_id,
                topic_name=self.topic,
                broker_addr=f"http://{self._client.addr}/",
            ),
            payload=payload.encode() if isinstance(payload, str) else payload,
            publish_time=time.time_ns() // 1_000_000,
            producer_name=self.name,
            **fields,
        )
        self.sequence_id += 1
        return message

    async def send(self, payload: bytes | str, **fields: Any) -> Any:
        """Send one message; returns what was sent."""
        message = self.message(payload, **fields)
        answer = await self._client.call("SendMessage", message)
        assert answer.request_id == message.request_id
        assert answer.sequence_id == message.msg_id.sequence_id
        return message

    async def send_all(self, payloads: Sequence[bytes | str]) -> None:
        """Send messages one after the other."""
        for payload in payloads:
            await self.send(payload)

    async def refused(self, payload: bytes | str) -> Refusal:
        """The refusal of a message that must be refused."""
        return await self._client.refused("SendMessage", self.message(payload))


class Client(Caller):
    """The client port."""

    def __init__(self, addr: str, receive_bytes_max: int = -1) -> None:
        super().__init__(addr, receive_bytes_max)
        self._streams: list[Stream] = []

    async def close(self) -> None:
        """End all streams and close the connection."""
        for stream in self._streams:
            await stream.cancel()
        await super().close()

    async def producer(self, topic: str, name: str = "producer", **fields: Any) -> Producer:
        """Create a producer (and the topic); ``fields`` are those of ProducerRequest."""
        answer = await self.call("CreateProducer", producer_request(topic, name, **fields))
        assert answer.producer_name == name
        return Producer(self, topic, name, answer.producer_id)

    async def reliable_producer(self, topic: str, name: str = "producer", **options: int) -> Producer:
        """``options`` are those of ReliableOptions."""
        schema = danube.Schema(name="bytes_schema", type_schema=BYTES)
        dispatch = strategy(reliable=True, **options)
        return await self.producer(topic, name, schema=schema, dispatch_strategy=dispatch)

    async def subscribe(
        self, topic: str, subscription: str, consumer: str = "consumer", kind: int = EXCLUSIVE
    ) -> int:
        """Returns the consumer id."""
        answer = await self.call("Subscribe", consumer_request(topic, subscription, consumer, kind))
        assert answer.consumer_name == consumer
        return int(answer.consumer_id)

    def receive(self, consumer_id: int, *, request_id: int = 1) -> Stream:
        """Begin a ReceiveMessages call."""
        return self.receive_raw(danube.ReceiveRequest(request_id=request_id, consumer_id=consumer_id))

    def receive_raw(self, request: Any) -> Stream:
        """The same with any request, or any bytes."""
        stream = Stream(self._channel, encoded(request))
        self._streams.append(stream)
        return stream

    async def consume(
        self, topic: str, subscription: str, consumer: str = "consumer", kind: int = EXCLUSIVE
    ) -> Stream:
        """Subscribe and open the stream."""
        stream = self.receive(await self.subscribe(topic, subscription, consumer, kind))
        await stream.opened()
        return stream

    async def ack(self, message: Any, subscription: str) -> None:
        """Acknowledge as clients do: request_id and msg_id come back as they were delivered."""
        request = danube.AckRequest(
            request_id=message.request_id, msg_id=message.msg_id, subscription_name=subscription
        )
        answer = await self.call("Ack", request)
        assert answer.request_id == message.request_id

    async def health(self, client: int, identifier: int) -> int:
        """The status that HealthCheck answers for a producer or consumer id."""
        request = danube.HealthCheckRequest(request_id=1, client=client, id=identifier)
        return int((await self.call("HealthCheck", request)).status)

    async def partitions(self, topic: str) -> list[str]:
        """What TopicPartitions answers."""
        request = danube.TopicLookupRequest(request_id=7, topic=topic)
        answer = await self.call("TopicPartitions", request)
        assert answer.request_id == 7
        return list(answer.partitions)

    async def lookup(self, topic: str) -> Any:
        """What TopicLookup answers."""
        return await self.call("TopicLookup", danube.TopicLookupRequest(request_id=8, topic=topic))

    async def schema(self, topic: str) -> Any:
        """What GetSchema answers."""
        answer = await self.call("GetSchema", danube.SchemaRequest(request_id=9, topic=topic))
        assert answer.request_id == 9
        return answer.schema


class Admin(Caller):
    """The administration port."""

    async def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        assert (await self.call("CreateNamespace", danube_admin.NamespaceRequest(name=name))).success

    async def namespaces(self) -> list[str]:
        """Names of all namespaces."""
        return list((await self.call("ListNamespaces", danube_admin.Empty())).namespaces)

    async def topics(self, namespace: str) -> list[str]:
        """With the leading slash, in whatever form they are listed."""
        answer = await self.call("ListTopics", danube_admin.NamespaceRequest(name=namespace))
        return ["/" + topic.removeprefix("/") for topic in answer.topics]

    async def create_topic(
        self,
        topic: str,
        *,
        schema_type: str = "String",
        schema_data: str = "{}",
        strategy: str = "non_reliable",
    ) -> None:
        """Defaults are those of the official command line."""
        assert (await self.call("CreateTopic", new_topic(topic, schema_type, schema_data, strategy))).success

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        assert (await self.call("DeleteTopic", danube_admin.TopicRequest(name=topic))).success

    async def subscriptions(self, topic: str) -> list[str]:
        """Names of the subscriptions of a topic."""
        answer = await self.call("ListSubscriptions", danube_admin.TopicRequest(name=topic))
        return list(answer.subscriptions)

    async def unsubscribe(self, topic: str, subscription: str) -> None:
        """Unsubscribe as soon as the platform has noticed that the consumer is gone."""
        request = danube_admin.SubscriptionRequest(topic=topic, subscription=subscription)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    assert (await self.call("Unsubscribe", request)).success
                except Refusal as refusal:
                    if refusal.code != "NOT_FOUND":
                        raise
                    await asyncio.sleep(RETRY_INTERVAL_S)
                else:
                    return

    async def set_topic_policies(self, topic: str, **policies: int) -> None:
        """Set policies of a topic, by their fields."""
        request = danube_platform.SetTopicPoliciesRequest(
            topic=topic, policies=danube_platform.Policies(**policies)
        )
        await self.call("SetTopicPolicies", request)

    async def set_namespace_policies(self, namespace: str, **policies: int) -> None:
        """Set policies of a namespace, by their fields."""
        request = danube_platform.SetNamespacePoliciesRequest(
            namespace=namespace, policies=danube_platform.Policies(**policies)
        )
        await self.call("SetNamespacePolicies", request)


def new_topic(
    topic: str, schema_type: str = "String", schema_data: str = "{}", strategy: str = "non_reliable"
) -> Any:
    """A request of CreateTopic as the official command line makes it."""
    return danube_admin.NewTopicRequest(
        name=topic, schema_type=schema_type, schema_data=schema_data, dispatch_strategy=strategy
    )
