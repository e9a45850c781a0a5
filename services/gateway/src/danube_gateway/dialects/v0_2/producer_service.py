"""``danube.ProducerService``: create producers and send messages."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from danube_common.errors import NotFound
from danube_common.model.names import TopicName, check_label
from danube_common.model.strategy import StorageBackend
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_gateway.dialects.errors import rpc_error
from danube_gateway.dialects.generations import RECREATE_HEADER
from danube_gateway.dialects.permissions import require_produce
from danube_gateway.dialects.v0_2.model import access_mode_of, schema_of, strategy_of
from danube_gateway.dialects.v0_2.sent_message import SentMessage, read_sent_message
from danube_gateway.publish.producers import Producers, ProducersOfConnections
from danube_gateway.publish.publishing import Publishing, Stored
from danube_gateway.publish.topic_resolver import TopicDeleted, TopicResolver
from danube_proto import danube_api_pb2 as api

GO_AGENT: Final = "grpc-go/"


class ProducerService:
    """Translates v0.2 producer calls.

    ``default_storage`` is used for reliable topics that name no storage.
    """

    def __init__(
        self,
        resolver: TopicResolver,
        producers: Producers,
        publishing: Publishing,
        *,
        default_storage: StorageBackend,
    ) -> None:
        self._resolver = resolver
        self._producers = producers
        self._publishing = publishing
        self._default_storage = default_storage
        self._of_connections = ProducersOfConnections()

    def register(self, methods: Methods) -> None:
        """Add the service's methods."""
        methods.unary["/danube.ProducerService/CreateProducer"] = self.create_producer
        methods.unary["/danube.ProducerService/SendMessage"] = self.send_message

    async def create_producer(self, call: Call) -> bytes:
        """Create a producer, and its topic if it is missing and was not deleted under this producer."""
        request = parse_strict(api.ProducerRequest, call.request)
        name = TopicName.parse(request.topic_name)
        check_label(request.producer_name, "producer")
        mode = access_mode_of(request.producer_access_mode)
        schema = schema_of(request.schema) if request.HasField("schema") else None
        strategy = None
        if request.HasField("dispatch_strategy"):
            strategy = strategy_of(request.dispatch_strategy, self._default_storage)
        had = self._of_connections.had(call.peer, request.topic_name, request.producer_name)
        may_create = not had or call.metadata.get(RECREATE_HEADER) == "true"
        try:
            topic = await self._resolver.find_or_create(
                name, schema, strategy, producer=request.producer_name, may_create=may_create
            )
        except TopicDeleted as error:
            raise _deleted(str(error)) from None
        except NotFound as error:
            # The namespace: v0.2 answers UNAVAILABLE, and the type keeps clients from trying again.
            raise rpc_error(StatusCode.UNAVAILABLE, api.ErrorType.UNKNOWN_ERROR, str(error)) from None
        try:
            producer = await self._producers.create(topic, request.producer_name, mode)
        except NotFound as error:  # it was deleted at this moment
            if may_create:
                raise
            raise _deleted(str(error)) from None
        self._publishing.producer_created(producer.producer_id, first_number(call, request.request_id))
        self._of_connections.add(call.peer, request.topic_name, request.producer_name)
        response = api.ProducerResponse(
            request_id=request.request_id,
            producer_id=producer.producer_id,
            producer_name=request.producer_name,
        )
        return response.SerializeToString()

    def send_message(self, call: Call) -> bytes | Awaitable[bytes]:
        """Publish one message; answers when it is stored, or sent to the owner if it is non-reliable."""
        message = read_sent_message(call.request)
        request_id, producer_id, sequence_id, payload = message
        producer = self._producers.known(producer_id)
        if producer is not None:
            call.require(Permission.PRODUCE, producer.topic.name)
            published = self._publishing.publish_at_once(producer, sequence_id, payload, call.request)
            if published is True:
                return message_response(request_id, sequence_id)
            if published:
                return _answer_when(published, request_id, sequence_id)
        return self._send_message(call, message)

    async def _send_message(self, call: Call, message: SentMessage) -> bytes:
        request_id, producer_id, sequence_id, payload = message
        if call.access is not None:
            await require_produce(call, self._producers, producer_id)
        await self._publishing.publish(producer_id, sequence_id, payload, call.request)
        return message_response(request_id, sequence_id)


async def _answer_when(stored: Stored, request_id: int, sequence_id: int) -> bytes:
    await stored
    return message_response(request_id, sequence_id)


_RESPONSE: Final = api.MessageResponse()


def message_response(request_id: int, sequence_id: int) -> bytes:
    """Return a serialized MessageResponse; one object serves for all, which saves two thirds of the time."""
    _RESPONSE.request_id = request_id
    _RESPONSE.sequence_id = sequence_id
    return _RESPONSE.SerializeToString()


def first_number(call: Call, request_id: int) -> int:
    """Return the number of a new producer's first message.

    Rust clients count requests and messages from 0, Go clients both from 1. Without knowing so, a Go client's
    first message would wait for one with the number 0.
    """
    agent = str(call.metadata.get("user-agent", ""))
    return 1 if agent.startswith(GO_AGENT) and request_id == 1 else 0


def _deleted(text: str) -> RpcError:
    return rpc_error(StatusCode.INVALID_ARGUMENT, api.ErrorType.TOPIC_NOT_FOUND, text)
