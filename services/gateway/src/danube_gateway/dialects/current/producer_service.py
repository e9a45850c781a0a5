"""``danube.ProducerService`` of the current generation."""

from __future__ import annotations

from typing import Final

from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, InvalidInput, NotFound, Refused
from danube_common.model.names import TopicName, check_label
from danube_common.model.schema import UNCHOSEN_SCHEMA, UNCHOSEN_STRING_NAME
from danube_common.model.strategy import StorageBackend, Strategy
from danube_common.rpc.port import Call, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.schemas.records import Subject
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_gateway.dialects.current.model import stamp_of, stored_message, strategy_of
from danube_gateway.dialects.current.refusals import Refusals, status_of
from danube_gateway.dialects.errors import rpc_error
from danube_gateway.dialects.generations import BROKER_URL_HEADER, inline_schema
from danube_gateway.dialects.permissions import require_produce
from danube_gateway.dialects.v0_2.model import access_mode_of
from danube_gateway.dialects.v0_2.producer_service import message_response
from danube_gateway.publish.producers import Producer, Producers, ProducersOfConnections
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.topic_resolver import TopicDeleted, TopicResolver
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as api

_UNCHOSEN_REFERENCE: Final = api.SchemaReference(subject=UNCHOSEN_STRING_NAME, min_version=1)
"""What the schema of core 0.5's clients reads as when their user chose none: its name, and its type."""


class ProducerService:
    """Translates producer calls. ``default_storage`` is used for new reliable topics."""

    def __init__(
        self,
        resolver: TopicResolver,
        producers: Producers,
        publishing: Publishing,
        registry: SchemaRegistry,
        topic_schemas: TopicSchemas,
        refusals: Refusals,
        *,
        default_storage: StorageBackend,
    ) -> None:
        self._resolver = resolver
        self._producers = producers
        self._publishing = publishing
        self._registry = registry
        self._topic_schemas = topic_schemas
        self._refusals = refusals
        self._default_storage = default_storage
        self._of_connections = ProducersOfConnections()

    async def create_producer(self, call: Call) -> bytes:
        """Create a producer, and its topic if it is missing and was not deleted under this producer."""
        try:
            request = _read(call.request)
            producer = await self._create(call, request)
        except Exception as error:  # noqa: BLE001 - every error gets its status
            raise await self._refusals.of(error) from None
        # Clients count a producer's calls, this one and the messages, in one row.
        self._publishing.producer_created(producer.producer_id, request.request_id + 1)
        self._of_connections.add(call.peer, request.topic_name, request.producer_name)
        response = api.ProducerResponse(
            request_id=request.request_id,
            producer_id=producer.producer_id,
            producer_name=request.producer_name,
        )
        return response.SerializeToString()

    async def _create(self, call: Call, request: api.ProducerRequest) -> Producer:
        name = TopicName.parse(request.topic_name)
        check_label(request.producer_name, "producer")
        mode = access_mode_of(request.producer_access_mode)
        strategy = strategy_of(request.dispatch_strategy, self._default_storage)
        subject = await self._subject(request)
        may_create = not self._of_connections.had(call.peer, request.topic_name, request.producer_name)
        # Without the header the strategy may be left out because the caller does not care.
        chosen = strategy.is_reliable or BROKER_URL_HEADER in call.metadata
        topic = await self._topic(
            name, strategy, producer=request.producer_name, chosen=chosen, may_create=may_create
        )
        if subject is not None:
            await self._topic_schemas.bind(topic, subject)
        return await self._producers.create(topic, request.producer_name, mode)

    async def _subject(self, request: api.ProducerRequest) -> Subject | None:
        """Return the subject of the request's schema reference, whose version exists. Raises NotFound."""
        if not request.HasField("schema_ref") or request.schema_ref == _UNCHOSEN_REFERENCE:
            return None
        reference = request.schema_ref
        which = reference.WhichOneof("version_ref")
        found = await self._registry.resolve(
            reference.subject,
            pinned=reference.pinned_version if which == "pinned_version" else None,
            minimum=reference.min_version if which == "min_version" else None,
        )
        return found.subject

    async def _topic(
        self, name: TopicName, strategy: Strategy, *, producer: str, chosen: bool, may_create: bool
    ) -> Topic:
        topic = await self._resolver.find(name)
        if topic is None:
            try:
                topic = await self._resolver.find_or_create(
                    name, UNCHOSEN_SCHEMA, strategy, producer=producer, may_create=may_create
                )
            except TopicDeleted as error:
                raise rpc_error(
                    StatusCode.INVALID_ARGUMENT, v0_2.ErrorType.TOPIC_NOT_FOUND, str(error)
                ) from None
            except NotFound as error:  # the namespace
                raise rpc_error(StatusCode.UNAVAILABLE, v0_2.ErrorType.UNKNOWN_ERROR, str(error)) from None
        if chosen and topic.strategy.is_reliable != strategy.is_reliable:
            raise Refused(
                f"topic {name} exists: its dispatch strategy is {topic.strategy.word}, not {strategy.word}"
            )
        return topic

    async def send_message(self, call: Call) -> bytes:
        """Publish one message; answers when it is stored, or sent to the owner if it is non-reliable."""
        message = parse_strict(api.StreamMessage, call.request)
        if not message.HasField("msg_id"):
            raise InvalidInput("the message has no msg_id")
        number, payload = message.request_id, message.payload
        producer_id, stamp = message.msg_id.producer_id, stamp_of(message)
        try:
            if call.access is not None:
                await require_produce(call, self._producers, producer_id)
            await self._publishing.publish(producer_id, number, payload, stored_message(message), stamp)
        except DanubeError as error:
            raise status_of(error) from None
        return message_response(number, number)


def _read(data: bytes) -> api.ProducerRequest:
    """Decode a request. Raises InvalidInput for the whole schema that clients of core 0.5 may send."""
    if inline_schema(data):
        raise InvalidInput(
            "clients 0.5 send schemas as this platform does not take them from them: use a client 0.2.0 to "
            "0.2.2, or 0.6 or later with a subject of the schema registry"
        )
    return parse_strict(api.ProducerRequest, data)
