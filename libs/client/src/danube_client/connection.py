"""gRPC connections: one for each gateway address, and the set of them that a client uses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import grpc
import grpc.aio

from danube_client.calls import Deliveries, Metadata, Request, Response, Stream, Unary
from danube_client.errors import (
    CallError,
    ClientError,
    Closed,
    InvalidAddress,
    TopicNotFound,
    UnknownClient,
    Unreachable,
    unreachable,
)
from danube_client.tls import Tls
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as stream

RECEIVE_BYTES_MAX = 64 * 1024 * 1024
CONNECTIONS_MAX = 256
HEALTH_TIMEOUT_S = 5.0

STREAMING = "/danube.stream.v1.Streaming"
PREFETCH_HEADER = "danube-prefetch"
RECREATE = (("danube-recreate", "true"),)
"""Metadata of CreateProducer: create the topic even if this connection had a producer on a deleted one."""
BOUND = (("danube-recreate", "false"),)
"""The opposite. Either one tells gateways that the request is v0.2's, which a missing strategy would not."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Repeating is this library's business: it keeps the order, the channel would not.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # In spite of its name: how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.use_local_subchannel_pool", 1),
    # A peer that does not answer any more, without having closed the connection, is given up after 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


def normalized(address: str) -> str:
    """Return ``scheme://host:port`` for an address, which may end with a slash or lack ``http://``.

    Raises:
        InvalidAddress: the text is no such address.
    """
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidAddress(f"{address!r}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidAddress(f"{address!r}: only http:// and https:// are spoken")
    if not parts.hostname or port is None or parts.path not in ("", "/") or parts.query or parts.username:
        raise InvalidAddress(f"{address!r}: an address is http://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def open_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """Open a channel to ``http://host:port`` or ``https://host:port``; raises InvalidAddress."""
    scheme, _, target = address.partition("://")
    if scheme == "https":
        tls = tls or Tls()
        options = (*CHANNEL_OPTIONS, *tls.channel_options())
        return grpc.aio.secure_channel(target, tls.credentials(in_metadata=True), options=options)
    if tls is not None and not tls.is_needed and tls.token is not None:
        local = tls.local_credentials(in_metadata=True)
        return grpc.aio.secure_channel(target, local, options=CHANNEL_OPTIONS)
    if tls is not None:
        raise InvalidAddress(f"{address!r}: with TLS an address is https://host:port")
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


class Connection:
    """The gRPC methods of one gateway.

    Attributes:
        address: ``http://host:port`` or ``https://host:port``.
    """

    def __init__(self, address: str, call_timeout_s: float, tls: Tls | None = None) -> None:
        self.address = address
        self._channel = open_channel(address, tls)
        self._credentials: Metadata = tls.metadata() if tls is not None else ()

        def unary(
            method: str,
            question: type[Request],
            answer: type[Response],
            timeout_s: float = call_timeout_s,
            missing: type[CallError] = UnknownClient,
        ) -> Unary[Request, Response]:
            call: grpc.aio.UnaryUnaryMultiCallable[Request, Response] = self._channel.unary_unary(
                method,
                request_serializer=question.SerializeToString,
                response_deserializer=answer.FromString,
            )
            return Unary(call, address, timeout_s, missing, self._credentials)

        self.create_producer = unary(
            "/danube.ProducerService/CreateProducer", wire.ProducerRequest, wire.ProducerResponse
        )
        self.send_message = unary(
            "/danube.ProducerService/SendMessage", wire.StreamMessage, wire.MessageResponse
        )
        self.subscribe = unary(
            "/danube.ConsumerService/Subscribe", wire.ConsumerRequest, wire.ConsumerResponse
        )
        self.create_subscription = unary(
            "/danube_platform.Subscriptions/CreateSubscription",
            platform.CreateSubscriptionRequest,
            platform.CreateSubscriptionResponse,
        )
        self.tell_losses = unary(
            "/danube_platform.Subscriptions/TellLosses",
            platform.TellLossesRequest,
            platform.TellLossesResponse,
        )
        self.set_failure_policy = unary(
            "/danube_platform.Subscriptions/SetFailurePolicy",
            platform.SetFailurePolicyRequest,
            platform.FailurePolicyResponse,
        )
        self.get_failure_policy = unary(
            "/danube_platform.Subscriptions/GetFailurePolicy",
            platform.GetFailurePolicyRequest,
            platform.FailurePolicyResponse,
        )
        self.get_topic = unary(
            "/danube_platform.Topics/GetTopic", platform.GetTopicRequest, platform.GetTopicResponse
        )
        self.ack = unary("/danube.ConsumerService/Ack", wire.AckRequest, wire.AckResponse)
        self.topic_lookup = unary(
            "/danube.Discovery/TopicLookup", wire.TopicLookupRequest, wire.TopicLookupResponse
        )
        self.topic_partitions = unary(
            "/danube.Discovery/TopicPartitions", wire.TopicLookupRequest, wire.TopicPartitionsResponse
        )
        self.get_schema = unary("/danube.Discovery/GetSchema", wire.SchemaRequest, wire.SchemaResponse)
        self.health_check = unary(
            "/danube.HealthCheck/HealthCheck",
            wire.HealthCheckRequest,
            wire.HealthCheckResponse,
            min(call_timeout_s, HEALTH_TIMEOUT_S),
        )
        self.describe_topic = unary(
            f"{STREAMING}/DescribeTopic",
            stream.DescribeTopicRequest,
            stream.DescribeTopicResponse,
            missing=TopicNotFound,
        )
        self.list_topics = unary(
            f"{STREAMING}/ListTopics",
            stream.ListTopicsRequest,
            stream.ListTopicsResponse,
            missing=TopicNotFound,
        )
        self._publish: grpc.aio.StreamStreamMultiCallable[stream.PublishRequest, stream.PublishResponse]
        self._publish = self._channel.stream_stream(
            f"{STREAMING}/Publish",
            request_serializer=stream.PublishRequest.SerializeToString,
            response_deserializer=stream.PublishResponse.FromString,
        )
        self._consume: grpc.aio.StreamStreamMultiCallable[stream.ConsumeRequest, stream.ConsumeResponse]
        self._consume = self._channel.stream_stream(
            f"{STREAMING}/Consume",
            request_serializer=stream.ConsumeRequest.SerializeToString,
            response_deserializer=stream.ConsumeResponse.FromString,
        )
        self._read: grpc.aio.UnaryStreamMultiCallable[stream.ReadRequest, stream.ReadResponse]
        self._read = self._channel.unary_stream(
            f"{STREAMING}/Read",
            request_serializer=stream.ReadRequest.SerializeToString,
            response_deserializer=stream.ReadResponse.FromString,
        )
        self._receive: grpc.aio.UnaryStreamMultiCallable[wire.ReceiveRequest, wire.StreamMessage]
        self._receive = self._channel.unary_stream(
            "/danube.ConsumerService/ReceiveMessages",
            request_serializer=wire.ReceiveRequest.SerializeToString,
            response_deserializer=wire.StreamMessage.FromString,
        )

    def receive_messages(self, request: wire.ReceiveRequest, prefetch: int | None = None) -> Deliveries:
        """Open the stream of deliveries of one consumer, with at most ``prefetch`` unacknowledged at once.

        Raises:
            Closed: the connection is closed.
        """
        try:
            metadata: Metadata = ((PREFETCH_HEADER, str(prefetch)),) if prefetch is not None else ()
            call = self._receive(request, metadata=self._credentials + metadata or None)
            return Deliveries(call, self.address)
        except grpc.aio.UsageError as error:
            raise Closed("the client is closed") from error

    def publish(self) -> Stream[stream.PublishRequest, stream.PublishResponse]:
        """Open the stream of one producer. Raises Closed."""
        try:
            call = self._publish(metadata=self._credentials or None)
            return Stream(call, self.address, self._check_streaming)
        except grpc.aio.UsageError as error:
            raise Closed("the client is closed") from error

    def consume(self) -> Stream[stream.ConsumeRequest, stream.ConsumeResponse]:
        """Open the stream of one consumer. Raises Closed."""
        try:
            call = self._consume(metadata=self._credentials or None)
            return Stream(call, self.address, self._check_streaming)
        except grpc.aio.UsageError as error:
            raise Closed("the client is closed") from error

    def read(self, request: stream.ReadRequest) -> Stream[stream.ReadRequest, stream.ReadResponse]:
        """Open the stream of one reading. Raises Closed."""
        try:
            call = self._read(request, metadata=self._credentials or None)
            return Stream(call, self.address, self._check_streaming)  # type: ignore[arg-type]  # never written to
        except grpc.aio.UsageError as error:
            raise Closed("the client is closed") from error

    async def _check_streaming(self) -> None:
        """Ask something of native streaming. Raises CallError with UNIMPLEMENTED if the platform lacks it."""
        try:
            await self.describe_topic(stream.DescribeTopicRequest())
        except CallError as error:
            if error.unimplemented:
                raise

    async def ready(self, timeout_s: float) -> None:
        """Wait until the connection is established.

        Raises:
            Unreachable: the address refused, or did not answer within ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                state = self._channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise Unreachable("UNAVAILABLE", unreachable(self.address))
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise Unreachable("UNAVAILABLE", f"{self.address} does not answer") from None

    async def close(self) -> None:
        """Close the channel; calls in progress end with Closed."""
        await self._channel.close(None)


class Connections:
    """The connections of one client, by address.

    Every gateway serves every topic. The client uses one at a time, its *home*.
    """

    def __init__(self, addresses: Sequence[str], call_timeout_s: float, tls: Tls | None = None) -> None:
        if not addresses:
            raise InvalidAddress("no address is given")
        self._addresses = [normalized(address) for address in addresses]
        self._call_timeout_s = call_timeout_s
        self._tls = tls
        self._home = 0
        self._by_address: dict[str, Connection] = {}
        self._closed = False

    @property
    def home(self) -> Connection:
        """The connection that new calls use."""
        return self.to(self._addresses[self._home])

    def to(self, address: str) -> Connection:
        """Return the connection to an address, and create it if it is missing.

        Raises:
            Closed: `close` was called.
            ClientError: the client has CONNECTIONS_MAX connections already.
        """
        if self._closed:
            raise Closed("the client is closed")
        address = normalized(address)
        connection = self._by_address.get(address)
        if connection is None:
            if len(self._by_address) >= CONNECTIONS_MAX:
                raise ClientError(f"more than {CONNECTIONS_MAX} addresses")
            connection = self._by_address[address] = Connection(address, self._call_timeout_s, self._tls)
        return connection

    def after(self, lost: Connection) -> Connection:
        """Return the connection that replaces a lost one; the next address becomes home if home is lost."""
        if lost.address == self._addresses[self._home]:
            self._home = (self._home + 1) % len(self._addresses)
        return self.home

    async def ready(self, timeout_s: float) -> None:
        """Make the first reachable address home.

        Raises:
            Unreachable: no address can be reached.
        """
        for _ in self._addresses[1:]:
            try:
                return await self.home.ready(timeout_s)
            except Unreachable:
                self.after(self.home)
        return await self.home.ready(timeout_s)

    async def lookup(self, connection: Connection, topic: str) -> Connection:
        """Ask ``connection`` which gateway serves a topic, and return the connection to that gateway.

        Raises:
            CallError: the platform refused the lookup.
        """
        answer = await connection.topic_lookup(wire.TopicLookupRequest(topic=topic))
        if answer.response_type == wire.TopicLookupResponse.Redirect:
            return self.to(answer.brokerServiceUrl)
        return connection

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for connection in self._by_address.values():
            await connection.close()
