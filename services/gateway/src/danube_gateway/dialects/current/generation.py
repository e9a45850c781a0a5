"""The methods of the current generation, beside those of v0.2: each call goes to its generation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from danube_common.cluster.owner_client import OwnerClient
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_common.rpc.port import Call, Framed, Methods, Opened, StreamHandler, UnaryHandler
from danube_common.schemas.registry import SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.current.consumer_service import ConsumerService
from danube_gateway.dialects.current.producer_service import ProducerService
from danube_gateway.dialects.current.refusals import Refusals
from danube_gateway.dialects.current.storage_service import StorageService
from danube_gateway.dialects.generations import (
    Generation,
    Metadata,
    of_caller,
    of_consumer,
    of_message,
    of_producer,
)
from danube_gateway.publish.producers import Producers
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.topic_resolver import TopicResolver

ACK: Final = "/danube.ConsumerService/Ack"
Decision = Callable[[bytes, Metadata], Generation]
KnownAck = Callable[[Call], Awaitable[bytes] | bytes | None]
"""Answers an acknowledgement that is known to be of v0.2; None for any other."""


class CurrentGeneration:
    """The current generation's services. ``default_storage`` is used for new reliable topics."""

    def __init__(
        self,
        resolver: TopicResolver,
        registry: SchemaRegistry,
        store: MetadataStore,
        default_storage: StorageBackend,
    ) -> None:
        self._resolver = resolver
        self._registry = registry
        self._store = store
        self._default_storage = default_storage

    def register(
        self,
        methods: Methods,
        producers: Producers,
        publishing: Publishing,
        owners: OwnerClient,
        sessions: Sessions,
        acks: Acknowledgements,
        known_ack: KnownAck,
    ) -> None:
        """Add the methods; those of v0.2 are registered already, and ``known_ack`` is of them."""
        refusals = Refusals()
        producer = ProducerService(
            self._resolver,
            producers,
            publishing,
            self._registry,
            TopicSchemas(self._store),
            refusals,
            default_storage=self._default_storage,
        )
        consumer = ConsumerService(self._resolver, owners, sessions, acks, refusals)
        storage = StorageService(self._resolver, self._store)
        for name, decide, handler in (
            ("ProducerService/CreateProducer", of_producer, producer.create_producer),
            ("ProducerService/SendMessage", of_message, producer.send_message),
            ("ConsumerService/Subscribe", of_consumer, consumer.subscribe),
            ("ConsumerService/Ack", of_message, consumer.ack),
        ):
            path = f"/danube.{name}"
            methods.unary[path] = _either(decide, methods.unary[path], handler)
        methods.unary[ACK] = _known_first(known_ack, methods.unary[ACK])
        receive = "/danube.ConsumerService/ReceiveMessages"
        methods.stream[receive] = _either_stream(methods.stream[receive], consumer.receive_messages)
        methods.unary["/danube.ConsumerService/Nack"] = consumer.nack
        methods.unary["/danube.StorageService/ListSegmentDescriptors"] = storage.list_segment_descriptors


def _either(decide: Decision, v0_2: UnaryHandler, current: UnaryHandler) -> UnaryHandler:
    def answer(call: Call) -> Awaitable[bytes] | bytes:
        is_current = decide(call.request, call.metadata) is Generation.CURRENT
        return current(call) if is_current else v0_2(call)

    return answer


def _known_first(known: KnownAck, other: UnaryHandler) -> UnaryHandler:
    def answer(call: Call) -> Awaitable[bytes] | bytes:
        found = known(call)
        return other(call) if found is None else found

    return answer


def _either_stream(v0_2: StreamHandler, current: StreamHandler) -> StreamHandler:
    """Decide by the metadata: the request is the same in both, and the consumer subscribed with them."""

    def answer(call: Call) -> AsyncIterator[bytes | list[bytes] | Framed | Opened]:
        return (current if of_caller(call.metadata) is Generation.CURRENT else v0_2)(call)

    return answer
