"""Answers what gateways and the admin service ask of a bundle's owner."""

from __future__ import annotations

from danube_common.errors import NotFound
from danube_common.model.names import check_label
from danube_common.wire.owner import (
    Acked,
    Acks,
    Attach,
    ConsumerFound,
    CreateConsumer,
    CreateProducer,
    Credit,
    Detach,
    FindConsumer,
    FindProducer,
    OwnerReply,
    OwnerRequest,
    ProducerFound,
    Sync,
    TouchProducers,
    UnknownIds,
)
from danube_topic_owner.api.consumer_admission import admit_consumer
from danube_topic_owner.api.subscription_requests import SubscriptionRequests
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.delivery.sessions import Sessions, consumer_found
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal.events import ConsumerRemoved

ATTACH_GRACE_S = 10.0
"""A consumer that subscribed keeps its place this long until its stream comes."""


class Requests:
    """One bundle's request handler. What changes durable state is journaled before it is answered."""

    def __init__(self, owner: BundleOwner, sessions: Sessions) -> None:
        self._owner = owner
        self._sessions = sessions
        self._subscriptions = SubscriptionRequests(owner)

    async def answer(self, request: OwnerRequest) -> OwnerReply:
        """Carry out a request. Raises DanubeError."""
        match request:
            case Acks():
                return self._acks(request)
            case Credit():
                return self._sessions.credit(request)
            case Sync():
                return self._sessions.sync(request)
            case Attach():
                return self._sessions.attach(request)
            case Detach():
                return self._sessions.detach(request)
            case FindConsumer(consumer_id):
                return self._find_consumer(consumer_id)
            case FindProducer(producer_id):
                return self._find_producer(producer_id)
            case TouchProducers(producer_ids):
                return UnknownIds(self._owner.producers.touch(producer_ids, self._owner.clock()))
            case CreateProducer():
                return await self._create_producer(request)
            case CreateConsumer():
                return await self._create_consumer(request)
            case _:
                return await self._subscriptions.answer(request)

    async def _create_producer(self, request: CreateProducer) -> ProducerFound:
        owner = self._owner
        check_label(request.producer_name, "producer")
        topic = await self._owner.find_topic(request.topic)
        now = owner.clock()
        admission = owner.producers.admit(
            topic.topic_id,
            topic.name,
            request.producer_name,
            request.access_mode,
            owner.catalogue.policies(topic.topic_name),
            now,
        )
        if admission.events:
            owner.writer.record(*admission.events)
            owner.metrics.producers.labels(topic.name).set(owner.producers.alive_count(topic.topic_id, now))
        # Also for a known name: the call that made it known may still wait for the journal.
        await owner.writer.flushed()
        return ProducerFound(admission.producer_id, request.producer_name, topic.name, topic.topic_id)

    def _find_producer(self, producer_id: int) -> ProducerFound:
        topic, producer = self._owner.producers.find(producer_id, self._owner.clock())
        return ProducerFound(producer_id, producer.name, topic.name, topic.topic_id)

    async def _create_consumer(self, request: CreateConsumer) -> ConsumerFound:
        owner = self._owner
        check_label(request.subscription, "subscription")
        check_label(request.consumer_name, "consumer")
        topic = await self._owner.find_topic(request.topic)
        now = owner.clock()
        active = owner.subscriptions.get(topic.topic_id, {})
        policies = owner.catalogue.policies(topic.topic_name)
        admission = admit_consumer(
            owner.bundle,
            owner.state,
            topic,
            request,
            active,
            policies,
            now,
            earliest=owner.earliest(topic),
        )
        if admission.events:
            owner.writer.record(*admission.events)
        state = owner.state.topics[topic.topic_id].subscriptions[request.subscription]
        subscription = owner.activate(topic, state)
        for event in admission.events:
            if isinstance(event, ConsumerRemoved):
                subscription.dispatch.remove(event.consumer_id)
        subscription.dispatch.expect(admission.consumer_id, request.consumer_name, now + ATTACH_GRACE_S)
        await owner.writer.flushed()
        return consumer_found(subscription, admission.consumer_id)

    def _find_consumer(self, consumer_id: int) -> ConsumerFound:
        subscription = self._owner.subscription_of(consumer_id)
        if subscription is None:
            raise NotFound(f"consumer {consumer_id} does not exist")
        return consumer_found(subscription, consumer_id)

    def _acks(self, request: Acks) -> Acked:
        owner = self._owner
        unknown: list[tuple[str, str]] = []
        for batch in request.batches:
            topic = owner.catalogue.topic(batch.topic)
            if topic is None:
                continue
            subscription = owner.subscriptions.get(topic.topic_id, {}).get(batch.subscription)
            if subscription is None:
                unknown.append((batch.topic, batch.subscription))
            elif isinstance(subscription, LogSubscription):
                subscription.acknowledge(batch.positions, owner.reader.tail)
                owner.dispatcher.mark_ready(subscription)
        return Acked(unknown)
