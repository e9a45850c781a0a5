"""Whatever arrives gets a status in time and changes nothing (seeded: the same bytes every time)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.client import (
    ERROR_TRAILER,
    OK,
    OPTIONS,
    PLATFORM_METHODS,
    PRODUCER,
    SERVICE_NOT_READY,
    SHARED,
    Admin,
    Client,
    consumer_request,
    encoded,
    new_topic,
    producer_request,
)
from tests.conformance.strict import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, decode
from tests.conformance.stubs import danube, danube_admin, danube_platform
from tests.conformance.tables import MESSAGES, METHODS, STREAM, Fields

from danube_harness.platforms.standalone import PROCESS_NAMES, Platform

T = TypeVar("T")

DEADLINE_S = 10.0
"""A call without a status after this long hangs."""
SETTLE_S = 0.2
"""A stream that opened and is refused all the same ends within this."""

HANG_UP_S = 0.5
EXAMPLES = 25
REQUEST_BYTES_MAX = 512
HUGE_BYTES = 40 * 1024 * 1024
ALL_METHODS = (*METHODS, *PLATFORM_METHODS)
NEVER = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "CANCELLED", "DATA_LOSS"}
DOCUMENTED = {"CreateProducer": {"UNAVAILABLE"}, "Ack": {"INTERNAL"}, "SendMessage": {"INTERNAL"}}
"""Where these two codes are the documented answer; anywhere else they mean a fault."""

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Wire:
    """Blocking calls of bytes to both ports."""

    def __init__(self, platform: Platform) -> None:
        client_port = grpc.insecure_channel(platform.gateway_addr, options=OPTIONS)
        admin_port = grpc.insecure_channel(platform.admin_addr, options=OPTIONS)
        self._ports = {"danube": client_port, "danube_admin": admin_port, "danube_platform": admin_port}

    def close(self) -> None:
        for port in self._ports.values():
            port.close()

    def call(self, method: str, request: bytes) -> str:
        """The status's name; a status that no client could make sense of fails here."""
        port = self._ports[method[1:].partition(".")[0]]
        try:
            if method == STREAM:
                self._stream(port, request)
            else:
                self.raw(method, request)
        except grpc.RpcError as error:
            return self._check(method, error)
        return "OK"

    def raw(self, method: str, request: bytes) -> None:
        """One unary call, nothing checked; raises grpc.RpcError."""
        port = self._ports[method[1:].partition(".")[0]]
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = port.unary_unary(method, None, None)
        call(request, timeout=DEADLINE_S)

    def _stream(self, port: grpc.Channel, request: bytes) -> None:
        receive: grpc.UnaryStreamMultiCallable[bytes, bytes] = port.unary_stream(STREAM, None, None)
        stream: Any = receive(request, timeout=DEADLINE_S)
        ended = threading.Event()
        stream.add_done_callback(lambda _: ended.set())
        stream.initial_metadata()
        if ended.wait(SETTLE_S):
            next(stream, None)
        else:
            stream.cancel()

    def _check(self, method: str, error: Any) -> str:
        code: str = error.code().name
        short = method.rpartition("/")[2]
        shown = f"{short}: {code} {error.details()!r}"
        assert code not in NEVER, shown
        if code in {"INTERNAL", "UNAVAILABLE"}:
            assert code in DOCUMENTED.get(short, ()), shown
        trailers = dict(error.trailing_metadata() or ())
        if method.startswith("/danube.") or ERROR_TRAILER in trailers:
            message = decode("danube.ErrorMessage", trailers[ERROR_TRAILER])
            assert message.error_message, shown
            assert message.error_type != SERVICE_NOT_READY, shown
        return code


@pytest.fixture(scope="module")
def wire(platform: Platform) -> Iterator[Wire]:
    connected = Wire(platform)
    yield connected
    connected.close()


def run(platform: Platform, work: Callable[[Client, Admin], Awaitable[T]]) -> T:
    async def connected() -> T:
        client, admin = Client(platform.gateway_addr), Admin(platform.admin_addr)
        try:
            return await work(client, admin)
        finally:
            await client.close()
            await admin.close()

    return asyncio.run(connected())


PAYLOADS = [b"first", b"second", b"third"]


@dataclass(frozen=True)
class Reference:
    """What must stay as it is."""

    topic: str
    producer_id: int
    schema: bytes
    topics: list[str]
    pids: Mapping[str, list[int]]


@pytest.fixture(scope="module")
def reference(platform: Platform) -> Iterator[Reference]:
    namespace = f"kept_{uuid4().hex[:8]}"
    topic = f"/{namespace}/topic"

    async def prepare(client: Client, admin: Admin) -> Reference:
        await admin.create_namespace(namespace)
        producer = await client.reliable_producer(topic)
        await producer.send_all(PAYLOADS)
        schema = (await client.schema(topic)).SerializeToString()
        return Reference(topic, producer.producer_id, schema, await admin.topics(namespace), pids(platform))

    yield run(platform, prepare)
    run(platform, lambda client, _: check_messages(client, topic, "afterwards"))


async def check_messages(client: Client, topic: str, subscription: str) -> None:
    """What nobody acknowledged comes every time."""
    consumer = await client.consume(topic, subscription)
    assert [message.payload for message in await consumer.take(len(PAYLOADS))] == PAYLOADS


def pids(platform: Platform) -> dict[str, list[int]]:
    return {name: platform.pids(name) for name in sorted(set(PROCESS_NAMES.values()))}


@pytest.fixture
def unchanged(platform: Platform, reference: Reference) -> Iterator[None]:
    """After the test the platform runs as before and the reference topic is what it was."""
    yield

    async def check(client: Client, admin: Admin) -> None:
        topic = reference.topic
        assert await client.health(PRODUCER, reference.producer_id) == OK
        assert (await client.schema(topic)).SerializeToString() == reference.schema
        assert await admin.topics(topic.split("/")[1]) == reference.topics
        await check_messages(client, topic, "meanwhile")

    run(platform, check)
    assert pids(platform) == reference.pids, "a process died"


@pytest.fixture(scope="module")
def bases(platform: Platform) -> Mapping[str, bytes]:
    """For every method a sound request about a topic that may be harmed."""
    namespace = f"harmed_{uuid4().hex[:8]}"
    topic = f"/{namespace}/topic"

    async def prepare(client: Client, admin: Admin) -> Mapping[str, bytes]:
        await admin.create_namespace(namespace)
        producer = await client.reliable_producer(topic)
        await producer.send("x")
        consumer_id = await client.subscribe(topic, "sub", kind=SHARED)
        message = producer.message("payload", attributes={"key": "value"})
        policies = danube_platform.Policies(max_publish_rate=1_000_000, max_message_size=1_000_000)
        requests = {
            "CreateProducer": producer_request(topic, "another", request_id=5),
            "SendMessage": message,
            "Subscribe": consumer_request(topic, "sub", "another", SHARED, request_id=5),
            "ReceiveMessages": danube.ReceiveRequest(request_id=5, consumer_id=consumer_id),
            "Ack": danube.AckRequest(request_id=5, msg_id=message.msg_id, subscription_name="sub"),
            "TopicLookup": danube.TopicLookupRequest(request_id=5, topic=topic),
            "TopicPartitions": danube.TopicLookupRequest(request_id=5, topic=topic),
            "GetSchema": danube.SchemaRequest(request_id=5, topic=topic),
            "HealthCheck": danube.HealthCheckRequest(request_id=5, client=1, id=consumer_id),
            "ListBrokers": danube_admin.Empty(),
            "GetLeaderBroker": danube_admin.Empty(),
            "ListNamespaces": danube_admin.Empty(),
            "GetNamespaceTopics": danube_admin.NamespaceRequest(name=namespace),
            "GetNamespacePolicies": danube_admin.NamespaceRequest(name=namespace),
            "CreateNamespace": danube_admin.NamespaceRequest(name=namespace),
            "DeleteNamespace": danube_admin.NamespaceRequest(name=namespace),
            "ListTopics": danube_admin.NamespaceRequest(name=namespace),
            "CreateTopic": new_topic(topic, "json", '{"type": "object"}', "reliable:segment_size=5"),
            "DeleteTopic": danube_admin.TopicRequest(name=topic),
            "ListSubscriptions": danube_admin.TopicRequest(name=topic),
            "Unsubscribe": danube_admin.SubscriptionRequest(topic=topic, subscription="sub"),
            "SetNamespacePolicies": danube_platform.SetNamespacePoliciesRequest(
                namespace=namespace, policies=policies
            ),
            "GetTopicPolicies": danube_platform.GetTopicPoliciesRequest(topic=topic),
            "SetTopicPolicies": danube_platform.SetTopicPoliciesRequest(topic=topic, policies=policies),
        }
        return {method: encoded(requests[method.rpartition("/")[2]]) for method in ALL_METHODS}

    return run(platform, prepare)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.usefixtures("unchanged")
def test_random_bytes_get_a_status(wire: Wire, method: str) -> None:
    @fuzz
    @given(st.binary(max_size=REQUEST_BYTES_MAX))
    def check(request: bytes) -> None:
        wire.call(method, request)

    check()


@st.composite
def mutations(draw: st.DrawFn, request: bytes) -> bytes:
    """A few bytes changed, put in, taken away or doubled."""
    data = bytearray(request)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 16)))
        kind = draw(st.sampled_from(("change", "insert", "remove", "double", "cut")))
        if kind == "change":
            data[at:end] = draw(st.binary(min_size=end - at, max_size=end - at))
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "remove":
            del data[at:end]
        elif kind == "double":
            data[at:at] = data[at:end]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.usefixtures("unchanged")
def test_a_request_with_a_few_wrong_bytes_gets_a_status(
    wire: Wire, bases: Mapping[str, bytes], method: str
) -> None:
    @fuzz
    @given(mutations(bases[method]))
    def check(request: bytes) -> None:
        wire.call(method, request)

    check()


def contradictions(package: str, fields: Fields) -> Iterator[tuple[str, bytes]]:
    """Every field, at any depth, in every wire type it has not: what to append to a request."""
    for number, (name, kind) in fields.items():
        varint = kind in {"uint64", "uint32", "int32", "bool"} or kind.startswith("enum ")
        right = VARINT if varint else LENGTH_DELIMITED
        values = {VARINT: b"\x01", FIXED64: bytes(8), LENGTH_DELIMITED: b"\x00", FIXED32: bytes(4)}
        for wire_type, value in values.items():
            if wire_type != right:
                yield f"{name} as {wire_type}", bytes((number << 3 | wire_type,)) + value
        nested: Fields = {}
        if kind == "map":
            nested = {1: ("key", "string"), 2: ("value", "string")}
        elif kind.startswith("message "):
            nested = MESSAGES[package][kind.removeprefix("message ")]
        for where, data in contradictions(package, nested):
            yield f"{name}.{where}", bytes((number << 3 | LENGTH_DELIMITED, len(data))) + data


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("unchanged")
def test_a_known_field_of_another_wire_type_is_refused(
    wire: Wire, bases: Mapping[str, bytes], method: str
) -> None:
    package = method[1:].partition(".")[0]
    for where, contradiction in contradictions(package, MESSAGES[package][METHODS[method][0]]):
        for request in (bases[method] + contradiction, contradiction + bases[method]):
            assert wire.call(method, request) == "INVALID_ARGUMENT", where


@pytest.mark.usefixtures("unchanged")
def test_the_other_generations_msg_id_is_read_as_its_own(wire: Wire, bases: Mapping[str, bytes]) -> None:
    # Layout C: producer_id 1, topic_name 2, broker_addr 3, segment_id 4, segment_offset 5.
    topic, broker = b"/default/t", b"http://127.0.0.1:6650"
    msg_id = b"\x08\x07\x12" + bytes((len(topic),)) + topic + b"\x1a" + bytes((len(broker),)) + broker
    request = b"\x08\x01\x12" + bytes((len(msg_id),)) + msg_id + b"\x1a\x01x"
    assert wire.call("/danube.ProducerService/SendMessage", request) == "NOT_FOUND"  # producer 7
    assert wire.call("/danube.ConsumerService/Ack", request) == "INVALID_ARGUMENT"  # nothing delivered


@pytest.mark.parametrize("method", ["TopicLookup", "CreateProducer", "SendMessage", "Ack", "ListTopics"])
@pytest.mark.usefixtures("unchanged")
def test_fields_of_a_later_generation_are_passed_over(
    wire: Wire, bases: Mapping[str, bytes], method: str
) -> None:
    full_name = next(name for name in METHODS if name.endswith(f"/{method}"))
    later = b"\xa0\x06\x01\xaa\x06\x03new\xb5\x06abcd\xb9\x06abcdefgh"  # fields 100 to 103
    assert wire.call(full_name, bases[full_name]) == wire.call(full_name, bases[full_name] + later)


@pytest.mark.usefixtures("unchanged")
def test_a_request_larger_than_any_message_is_refused(wire: Wire, bases: Mapping[str, bytes]) -> None:
    method = "/danube.ProducerService/SendMessage"
    with pytest.raises(grpc.RpcError) as caught:
        wire.raw(method, b"\x1a\x80\x80\x80\x14" + bytes(HUGE_BYTES))
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("port", ["gateway_addr", "admin_addr"])
@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\xff" * 300,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04\x00\x00\x00\x01",
        bytes(range(256)) * 64,
    ],
    ids=["http1", "tls", "frames", "endless frame", "noise"],
)
@pytest.mark.usefixtures("unchanged")
def test_what_is_no_grpc_harms_nobody(platform: Platform, port: str, noise: bytes) -> None:
    host, _, number = str(getattr(platform, port)).rpartition(":")
    connection = socket.create_connection((host, int(number)), timeout=HANG_UP_S)
    # The server may hang up at any of these, or leave it to us.
    with connection, contextlib.suppress(OSError):
        connection.sendall(noise)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
