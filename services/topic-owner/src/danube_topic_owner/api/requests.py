"""Handles the requests of gateways and the admin service: one handler for each request type."""

from __future__ import annotations

from typing import Final

import msgspec

from danube_common.errors import NotFound
from danube_common.model.names import check_label
from danube_common.wire.envelope import Done
from danube_common.wire.frame import sequence_key
from danube_common.wire.owner.acknowledgements import Acked, Acks, Nack
from danube_common.wire.owner.producers import (
    CreateProducer,
    FindProducer,
    FindSequence,
    ProducerFound,
    SequenceFound,
    TouchProducers,
    UnknownIds,
)
from danube_common.wire.owner.protocol import OwnerRequest
from danube_common.wire.owner.sessions import ConsumerFound, CreateConsumer
from danube_topic_owner.api.consumer_admission import admit_consumer
from danube_topic_owner.api.producers import Producers
from danube_topic_owner.api.sessions import Sessions, consumer_found
from danube_topic_owner.api.subscription_requests import SubscriptionRequests
from danube_topic_owner.api.topic_reads import TopicReads
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.catchup.sequence_fold import SequenceFold
from danube_topic_owner.context import Handlers, OwnerContext
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal.events import ConsumerRemoved

ATTACH_GRACE_S = 10.0
"""A consumer that subscribed keeps its admission this long until its stream comes."""


class Requests:
    """One bundle's request handlers. Changes of durable state are journaled before the reply.

    Attributes:
        producers: the producers of the bundle's topics.
        sessions: the open streams of consumers.
    """

    def __init__(
        self, context: OwnerContext, archive_catchup: ArchiveCatchUp, sequences: SequenceFold
    ) -> None:
        self._sequences = sequences
        self.producers = Producers(context.bundle, context.state, context.clock())
        self.sessions = Sessions(context)
        self._context = context
        self._subscriptions = SubscriptionRequests(context, archive_catchup, self.producers, sequences)
        self._handlers: Final[Handlers] = {
            CreateProducer: self._create_producer,
            FindProducer: self._find_producer,
            FindSequence: self._find_sequence,
            TouchProducers: self._touch_producers,
            CreateConsumer: self._create_consumer,
            Acks: self._acknowledge,
            Nack: self._nack,
            **self.sessions.handlers,
            **self._subscriptions.handlers,
            **TopicReads(context, archive_catchup).handlers,
        }

    async def answer(self, request: OwnerRequest) -> msgspec.Struct:
        """Carry out a request. Raises DanubeError."""
        return await self._handlers[type(request)](request)

    async def _create_producer(self, request: CreateProducer) -> ProducerFound:
        context = self._context
        check_label(request.producer_name, "producer")
        topic = await context.find_topic(request.topic)
        now = context.clock()
        policies = context.catalogue.policies(topic.topic_name)
        admission = self.producers.admit(topic, request.producer_name, request.access_mode, policies, now)
        if admission.events:
            context.writer.record(*admission.events)
            alive = self.producers.alive(topic.topic_id, now)
            context.metrics.producers.labels(topic.name).set(len(alive))
            context.metrics.active_producers.labels(topic.name).set(len(alive))
        # Also for a known name: the request that created the producer may still wait for the journal.
        await context.writer.flushed()
        return ProducerFound(admission.id, request.producer_name, topic.name, topic.topic_id)

    async def _find_producer(self, request: FindProducer) -> ProducerFound:
        topic, producer = self.producers.find(request.producer_id, self._context.clock())
        return ProducerFound(request.producer_id, producer.name, topic.name, topic.topic_id)

    async def _find_sequence(self, request: FindSequence) -> SequenceFound:
        topic = await self._context.find_topic(request.topic)
        key = sequence_key(topic.topic_id, request.producer_name)
        return SequenceFound(await self._sequences.last(key))

    async def _touch_producers(self, request: TouchProducers) -> UnknownIds:
        return UnknownIds(self.producers.touch(request.producer_ids, self._context.clock()))

    async def _create_consumer(self, request: CreateConsumer) -> ConsumerFound:
        context = self._context
        check_label(request.subscription, "subscription")
        check_label(request.consumer_name, "consumer")
        topic = await context.find_topic(request.topic)
        now = context.clock()
        admission = admit_consumer(
            context.bundle,
            context.state,
            topic,
            request,
            context.subscriptions.get(topic.topic_id, {}),
            context.catalogue.policies(topic.topic_name),
            now,
            earliest=self._subscriptions.earliest(topic),
        )
        if admission.events:
            context.writer.record(*admission.events)
        state = context.state.topics[topic.topic_id].subscriptions[request.subscription]
        subscription = context.activate(topic, state)
        for event in admission.events:
            if isinstance(event, ConsumerRemoved):
                subscription.dispatch.remove(event.consumer_id)
        subscription.dispatch.expect(admission.id, request.consumer_name, now + ATTACH_GRACE_S)
        subscription.dispatch.filter_keys(admission.id, state.key_filters.get(admission.id, ()))
        context.dispatcher.mark_ready(subscription)
        await context.writer.flushed()
        return consumer_found(subscription, admission.id)

    async def _acknowledge(self, request: Acks) -> Acked:
        context = self._context
        unknown: list[tuple[str, str]] = []
        for batch in request.batches:
            topic = context.catalogue.topic(batch.topic)
            if topic is None:
                continue
            subscription = context.subscriptions.get(topic.topic_id, {}).get(batch.subscription)
            if subscription is None:
                unknown.append((batch.topic, batch.subscription))
            elif batch.generation != subscription.state.generation:
                continue  # of a subscription that was reset or created again since
            elif isinstance(subscription, LogSubscription):
                subscription.acknowledge(batch.spans(), context.extent.tail)
                context.dispatcher.mark_ready(subscription)
        return Acked(unknown)

    async def _nack(self, request: Nack) -> Done:
        context = self._context
        topic = await context.find_topic(request.topic)
        subscription = context.subscriptions.get(topic.topic_id, {}).get(request.subscription)
        if subscription is None:
            raise NotFound(f"topic {topic.name} has no subscription {request.subscription!r}")
        if isinstance(subscription, LogSubscription) and request.generation == subscription.state.generation:
            now, reason = context.clock(), request.reason
            subscription.nack(request.first, request.last, now, delay_ms=request.delay_ms, reason=reason)
            context.dispatcher.mark_ready(subscription)
        return Done()
