"""``danube.ConsumerService`` of the current generation."""

from __future__ import annotations

from collections.abc import AsyncIterator

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import InvalidInput, InvalidName, NotFound, Refused
from danube_common.model.failure_policy import REDELIVERY_DELAY_MAX_MS
from danube_common.model.names import TopicName, check_label
from danube_common.model.subscription import check_key_filters
from danube_common.rpc.port import OPENED, Call, Framed, Opened, RpcError, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_gateway.consume.ack_forwarder import Delivered
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.admission import create_consumer
from danube_gateway.consume.session import extent
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.current.model import is_stored, stream_messages, subscription_type_of, tag_of
from danube_gateway.dialects.current.refusals import GONE_S, PAUSE_S, Refusals
from danube_gateway.dialects.errors import rpc_error, topic_not_found
from danube_gateway.dialects.generations import Generation
from danube_gateway.dialects.permissions import require_consume
from danube_gateway.dialects.v0_2.model import prefetch_of
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as api


class ConsumerService:
    """Translates consumer calls to sessions and acknowledgements."""

    def __init__(
        self,
        resolver: TopicResolver,
        owners: OwnerClient,
        sessions: Sessions,
        acknowledgements: Acknowledgements,
        refusals: Refusals,
    ) -> None:
        self._resolver = resolver
        self._owners = owners
        self._sessions = sessions
        self._acknowledgements = acknowledgements
        self._refusals = refusals

    async def subscribe(self, call: Call) -> bytes:
        """Create a consumer, and its subscription if it is missing."""
        try:
            return await self._subscribe(call)
        except Refused as error:
            raise await self._refusals.of(_denied(str(error))) from None
        except Exception as error:  # noqa: BLE001 - every error gets its status
            raise await self._refusals.of(error) from None

    async def _subscribe(self, call: Call) -> bytes:
        request = parse_strict(api.ConsumerRequest, call.request)
        name = TopicName.parse(request.topic_name)
        check_label(request.subscription, "subscription")
        check_label(request.consumer_name, "consumer")
        try:
            kind = subscription_type_of(request.subscription_type)
            check_key_filters(kind, request.key_filters)
        except InvalidInput as error:
            raise _denied(str(error)) from None
        topic = await self._resolver.find(name)
        if topic is None:
            raise topic_not_found(request.topic_name, Generation.CURRENT)
        consumer = await create_consumer(
            self._owners,
            self._sessions,
            topic,
            request.subscription,
            kind,
            request.consumer_name,
            call.peer,
            request.key_filters,
        )
        response = api.ConsumerResponse(
            request_id=request.request_id,
            consumer_id=consumer.consumer_id,
            consumer_name=request.consumer_name,
        )
        return response.SerializeToString()

    async def receive_messages(self, call: Call) -> AsyncIterator[Framed | Opened]:
        """Stream the consumer's messages.

        The stream ends with UNAVAILABLE, after a pause in which the client learns from the health check that
        its consumer is gone: a stream that ends otherwise is opened again at once and for ever, or never.
        """
        request = parse_strict(api.ReceiveRequest, call.request)
        prefetch = prefetch_of(call.metadata)
        try:
            if call.access is not None:
                await require_consume(call, self._sessions, request.consumer_id)
            session = await self._sessions.open(request.consumer_id, call.peer, prefetch)
        except NotFound as error:
            await self._refusals.pause(GONE_S)
            raise _gone(str(error)) from None
        except Refused as error:
            raise await self._refusals.of(_denied(str(error))) from None
        except Exception:
            await self._refusals.pause(PAUSE_S)
            raise
        try:
            yield OPENED
            while (batch := await session.next_batch()) is not None:
                delivered = Delivered(session.topic, session.subscription, session.generation)
                yield Framed(stream_messages(batch, delivered))
                self._sessions.drained(session, *extent(batch))
        finally:
            self._sessions.close(session)
        if isinstance(session.end, Refused):
            raise await self._refusals.of(_denied(str(session.end)))
        if session.end is not None:
            raise session.end
        await self._refusals.pause(GONE_S)
        raise _gone(f"consumer {request.consumer_id} is gone")

    async def ack(self, call: Call) -> bytes:
        """Acknowledge one message; answers at once if a stream here delivered it, else with its owner."""
        request = parse_strict(api.AckRequest, call.request)
        if not request.HasField("msg_id"):
            raise InvalidInput("the acknowledgement has no msg_id")
        response = api.AckResponse(request_id=request.request_id).SerializeToString()
        call.require(Permission.CONSUME, request.msg_id.topic_name)
        delivered, position = tag_of(request.msg_id, request.subscription_name)
        if not is_stored(position) or self._acknowledgements.accept(delivered, position):
            return response
        topic = await self._topic(delivered)
        if topic is None:  # a success, as for all that is no longer outstanding
            return response
        try:
            await self._acknowledgements.acknowledge(topic.home, delivered, position)
        except NotFound as error:
            raise _no_subscription(error) from None
        return response

    async def nack(self, call: Call) -> bytes:
        """Note that a message failed; answers when its owner knows.

        It comes again after the delay of the subscription's failure policy, or of the request if that is
        longer; what failed too often is treated as the policy says.
        """
        request = parse_strict(api.NackRequest, call.request)
        if not request.HasField("msg_id"):
            raise InvalidInput("the negative acknowledgement has no msg_id")
        response = api.NackResponse(request_id=request.request_id).SerializeToString()
        call.require(Permission.CONSUME, request.msg_id.topic_name)
        delivered, position = tag_of(request.msg_id, request.subscription_name)
        topic = await self._topic(delivered) if is_stored(position) else None
        if topic is None:
            return response
        delay_ms = min(request.delay_ms, REDELIVERY_DELAY_MAX_MS)
        try:
            await self._acknowledgements.nack(
                topic.home, delivered, position, delay_ms=delay_ms, reason=request.reason
            )
        except NotFound as error:
            raise _no_subscription(error) from None
        return response

    async def _topic(self, delivered: Delivered) -> Topic | None:
        try:
            return await self._resolver.find(TopicName.parse(delivered.topic))
        except InvalidName:
            return None


def _no_subscription(error: NotFound) -> RpcError:
    return rpc_error(StatusCode.INTERNAL, v0_2.ErrorType.SUBSCRIPTION_NOT_FOUND, str(error))


def _denied(text: str) -> RpcError:
    return rpc_error(StatusCode.PERMISSION_DENIED, v0_2.ErrorType.SUBSCRIBE_PERMISSION_DENIED, text)


def _gone(text: str) -> RpcError:
    return rpc_error(StatusCode.UNAVAILABLE, v0_2.ErrorType.SERVICE_NOT_READY, f"{text}: subscribe again")
