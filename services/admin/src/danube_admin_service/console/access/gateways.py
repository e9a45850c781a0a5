"""Calls to a gateway with the credential of who looks: for what clients do and the admin port has not."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_common.cluster.records import Instance
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_api_pb2 as api

CALL_S_MAX: Final = 10.0
CONNECT_S_MAX: Final = 2.0
GATEWAYS_TRIED_MAX: Final = 3
ATTEMPTED: Final = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)

A = TypeVar("A", bound=Message)


class Gateway:
    """A connection to a gateway."""

    def __init__(self, channel: grpc.aio.Channel, credential: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {credential}"),) if credential else ()

    async def call(self, method: str, request: Message, answer: type[A]) -> A:
        """Make a call of the client port. Raises RpcError."""
        function = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            found: A = await function(request, timeout=CALL_S_MAX, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            code = StatusCode(error.code().value[0])
            raise RpcError(code, error.details() or error.code().name) from None
        return found


class Gateways:
    """The gateways that are registered.

    Args:
        instances: all that is registered.
        authorities: the certificates that those of gateways are checked with; None: the system's.
    """

    def __init__(self, instances: Callable[[], Iterable[Instance]], authorities: Path | None = None) -> None:
        self._instances = instances
        self._authorities = authorities

    @asynccontextmanager
    async def open(self, credential: str) -> AsyncIterator[Gateway]:
        """Connect to the first gateway that answers. Raises RpcError (UNAVAILABLE)."""
        urls = [one.address for one in self._instances() if one.kind == "gateway" and one.address]
        secrets.SystemRandom().shuffle(urls)
        for url in urls[:GATEWAYS_TRIED_MAX]:
            async with self._channel(url) as channel:
                if await _connects(channel):
                    yield Gateway(channel, credential)
                    return
        tried = ", ".join(urls[:GATEWAYS_TRIED_MAX]) or "there is none"
        raise RpcError(StatusCode.UNAVAILABLE, f"no gateway could be reached from the admin service: {tried}")

    def _channel(self, url: str) -> grpc.aio.Channel:
        scheme, _, target = url.rpartition("://")
        if scheme != "https":
            return grpc.aio.insecure_channel(target)
        roots = self._authorities.read_bytes() if self._authorities is not None else None
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots))


async def _connects(channel: grpc.aio.Channel) -> bool:
    """Return whether the first attempt to connect succeeds within `CONNECT_S_MAX`."""
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            while (state := channel.get_state(try_to_connect=True)) not in ATTEMPTED:
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return state is grpc.ChannelConnectivity.READY


class Publisher:
    """Publishes messages as they are, with a producer for each topic."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._name = f"console-{secrets.token_hex(4)}"
        self._producers: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    async def publish(self, topic: str, message: api.StreamMessage) -> None:
        """Return when the message is stored, or passed on if the topic is non-reliable. Raises RpcError."""
        if topic not in self._producers:
            request = api.ProducerRequest(topic_name=topic, producer_name=self._name)
            created = await self._gateway.call(calls.CREATE_PRODUCER, request, api.ProducerResponse)
            self._producers[topic] = created.producer_id
        number = self._numbers[topic] = self._numbers.get(topic, 0) + 1
        message.publish_time = message.publish_time or time.time_ns() // 1_000_000
        message.producer_name = message.producer_name or self._name
        message.msg_id.Clear()
        message.msg_id.MergeFrom(
            api.MsgID(sequence_id=number, producer_id=self._producers[topic], topic_name=topic)
        )
        message.request_id = number
        await self._gateway.call(calls.SEND, message, api.MessageResponse)
