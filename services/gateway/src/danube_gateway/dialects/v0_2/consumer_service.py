"""``danube.ConsumerService``: subscribe, receive, acknowledge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import InvalidInput, InvalidName, NotFound
from danube_common.model.names import TopicName, check_label
from danube_common.rpc.port import OPENED, Call, Framed, Methods, Opened, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.admission import create_consumer
from danube_gateway.consume.session import extent
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.errors import rpc_error, topic_not_found
from danube_gateway.dialects.permissions import require_consume
from danube_gateway.dialects.v0_2.ack_requests import Ack, AckRequests
from danube_gateway.dialects.v0_2.model import (
    delivery_fields,
    prefetch_of,
    subscription_type_of,
)
from danube_gateway.dialects.v0_2.stream_messages import stream_messages
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_api_pb2 as api


class ConsumerService:
    """Translates v0.2 consumer calls to sessions and acknowledgements."""

    def __init__(
        self,
        resolver: TopicResolver,
        owners: OwnerClient,
        sessions: Sessions,
        acknowledgements: Acknowledgements,
    ) -> None:
        self._resolver = resolver
        self._owners = owners
        self._sessions = sessions
        self._acknowledgements = acknowledgements
        self._ack_requests = AckRequests()

    def register(self, methods: Methods) -> None:
        """Add the service's methods."""
        methods.unary["/danube.ConsumerService/Subscribe"] = self.subscribe
        methods.unary["/danube.ConsumerService/Ack"] = self.ack
        methods.stream["/danube.ConsumerService/ReceiveMessages"] = self.receive_messages

    async def subscribe(self, call: Call) -> bytes:
        """Create a consumer, and its subscription if it is missing."""
        request = parse_strict(api.ConsumerRequest, call.request)
        name = TopicName.parse(request.topic_name)
        check_label(request.subscription, "subscription")
        check_label(request.consumer_name, "consumer")
        try:
            kind = subscription_type_of(request.subscription_type)
        except InvalidInput as error:
            raise rpc_error(
                StatusCode.PERMISSION_DENIED, api.ErrorType.SUBSCRIBE_PERMISSION_DENIED, str(error)
            ) from None
        topic = await self._resolver.find(name)
        if topic is None:
            raise topic_not_found(request.topic_name)
        consumer = await create_consumer(
            self._owners,
            self._sessions,
            topic,
            request.subscription,
            kind,
            request.consumer_name,
            call.peer,
        )
        response = api.ConsumerResponse(
            request_id=request.request_id,
            consumer_id=consumer.consumer_id,
            consumer_name=request.consumer_name,
        )
        return response.SerializeToString()

    async def receive_messages(self, call: Call) -> AsyncIterator[Framed | Opened]:
        """Stream the consumer's messages until the stream ends."""
        request = parse_strict(api.ReceiveRequest, call.request)
        if call.access is not None:
            await require_consume(call, self._sessions, request.consumer_id)
        prefetch = prefetch_of(call.metadata)
        session = await self._sessions.open(request.consumer_id, call.peer, prefetch)
        try:
            yield OPENED
            while (batch := await session.next_batch()) is not None:
                fields = delivery_fields(session.topic, session.subscription, session.generation)
                yield Framed(stream_messages(batch, fields))
                self._sessions.drained(session, *extent(batch))
            if session.end is not None:
                raise session.end
        finally:
            self._sessions.close(session)

    def ack(self, call: Call) -> bytes | Awaitable[bytes]:
        """Acknowledge one message; answers at once if a stream here delivered it, else with its owner."""
        return self._acknowledge(call, self._ack_requests.read(call.request))

    def known_ack(self, call: Call) -> bytes | Awaitable[bytes] | None:
        """Do as `ack` if the request is like one before and certainly of this generation; else None."""
        ack = self._ack_requests.known(call.request)
        return None if ack is None else self._acknowledge(call, ack)

    def _acknowledge(self, call: Call, ack: Ack) -> bytes | Awaitable[bytes]:
        position, delivered, response = ack
        call.require(Permission.CONSUME, delivered.topic)
        if self._acknowledgements.accept(delivered, position):
            return response
        return self._ask_owner(delivered, position, response)

    async def _ask_owner(self, delivered: Delivered, position: int, response: bytes) -> bytes:
        try:
            topic = await self._resolver.find(TopicName.parse(delivered.topic))
        except InvalidName:
            topic = None
        if topic is None:  # a success: clients end their receive loop on an error
            return response
        try:
            await self._acknowledgements.acknowledge(topic.home, delivered, position)
        except NotFound as error:
            raise rpc_error(StatusCode.INTERNAL, api.ErrorType.SUBSCRIPTION_NOT_FOUND, str(error)) from None
        return response
