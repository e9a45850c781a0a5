"""Sessions of consumers: their streams at gateways, their credit, and gateways that fell silent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

import structlog

from danube_common.errors import NotFound
from danube_common.wire.envelope import Done
from danube_common.wire.owner.notices import taken_over
from danube_common.wire.owner.sessions import (
    GATEWAY_SILENCE_S,
    Attach,
    ConsumerFound,
    Credit,
    Detach,
    FindConsumer,
    Sync,
    Synced,
)
from danube_topic_owner.context import Handlers, OwnerContext
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription

SWEEP_INTERVAL_S = 0.5

_log = structlog.get_logger(__name__)


class Sessions:
    """The consumer streams that each gateway holds.

    Attributes:
        handlers: by request type.
    """

    def __init__(self, context: OwnerContext) -> None:
        self.handlers: Final[Handlers] = {
            FindConsumer: self._find,
            Attach: self._attach,
            Detach: self._detach,
            Sync: self._sync,
            Credit: self._credit,
        }
        self._context = context
        self._heard: dict[str, float] = {}
        """When each gateway last sent a request (monotonic seconds)."""
        self._held: dict[str, set[int]] = defaultdict(set)
        """Ids of the consumers with a session, by gateway."""

    async def _find(self, request: FindConsumer) -> ConsumerFound:
        return consumer_found(self._subscription(request.consumer_id), request.consumer_id)

    async def _attach(self, request: Attach) -> ConsumerFound:
        context = self._context
        subscription = self._subscription(request.consumer_id)
        superseded = subscription.dispatch.attach(request, context.clock())
        if superseded is not None:
            self._held[superseded.gateway].discard(request.consumer_id)
            reason = taken_over(subscription.dispatch.consumers[request.consumer_id].name)
            context.notify_session_ended(request.consumer_id, superseded, reason, taken_over=True)
        self._heard[request.gateway] = context.clock()
        self._held[request.gateway].add(request.consumer_id)
        self._changed(subscription)
        return consumer_found(subscription, request.consumer_id)

    async def _detach(self, request: Detach) -> Done:
        subscription = self._context.subscription_of(request.consumer_id)
        if subscription is not None and subscription.dispatch.detach(request.consumer_id, request.session):
            for held in self._held.values():
                held.discard(request.consumer_id)
            self._changed(subscription)
        return Done()

    async def _sync(self, request: Sync) -> Synced:
        """Take in the credit of all sessions of a gateway, and end older ones that it no longer names."""
        context = self._context
        self._heard[request.gateway] = context.clock()
        unknown: list[int] = []
        sent: dict[int, int] = {}
        standby: list[int] = []
        caught_up: list[int] = []
        losses: dict[int, tuple[int, int]] = {}
        for state in request.sessions:
            subscription = context.subscription_of(state.consumer_id)
            if subscription is None or not subscription.dispatch.grant(state):
                unknown.append(state.consumer_id)
                continue
            session = subscription.dispatch.consumers[state.consumer_id].session
            sent[state.consumer_id] = session.number if session else 0
            if subscription.dispatch.stands_by(state.consumer_id):
                standby.append(state.consumer_id)
            elif subscription.caught_up:
                caught_up.append(state.consumer_id)
            if (lost_and_told := subscription.losses)[0] > lost_and_told[1]:
                losses[state.consumer_id] = lost_and_told
            context.dispatcher.mark_ready(subscription)
        named = {state.consumer_id for state in request.sessions}
        held = self._held[request.gateway]
        for consumer_id in held - named:
            if not request.newest or self._number(consumer_id) <= request.newest:
                held.discard(consumer_id)
                self._drop(request.gateway, consumer_id)
        return Synced(unknown, sent, standby, caught_up, losses)

    async def _credit(self, request: Credit) -> Done:
        for state in request.sessions:
            subscription = self._context.subscription_of(state.consumer_id)
            if subscription is not None and subscription.dispatch.grant(state):
                self._context.dispatcher.mark_ready(subscription)
        return Done()

    async def run(self) -> None:
        """End the sessions of silent gateways, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.sweep()

    def sweep(self) -> None:
        """End the sessions of gateways that were not heard for GATEWAY_SILENCE_S."""
        now = self._context.clock()
        for gateway, heard in list(self._heard.items()):
            if now - heard > GATEWAY_SILENCE_S:
                held = self._held.pop(gateway, set())
                del self._heard[gateway]
                if held:
                    _log.warning("gateway_silent", gateway=gateway, consumers=len(held))
                for consumer_id in held:
                    self._drop(gateway, consumer_id)

    def _number(self, consumer_id: int) -> int:
        """Return the number of a consumer's session; 0 if it has none."""
        subscription = self._context.subscription_of(consumer_id)
        consumer = subscription.dispatch.consumers.get(consumer_id) if subscription else None
        return consumer.session.session if consumer and consumer.session else 0

    def _drop(self, gateway: str, consumer_id: int) -> None:
        subscription = self._context.subscription_of(consumer_id)
        consumer = subscription.dispatch.consumers.get(consumer_id) if subscription else None
        if subscription is None or consumer is None or consumer.session is None:
            return
        if consumer.session.gateway == gateway:
            subscription.dispatch.detach(consumer_id, consumer.session.session)
            self._changed(subscription)

    def _changed(self, subscription: ActiveSubscription) -> None:
        self._context.dispatcher.mark_ready(subscription)
        topic_consumers = sum(
            len(each.dispatch.attached)
            for each in self._context.subscriptions.get(subscription.topic_id, {}).values()
        )
        metrics, topic = self._context.metrics, subscription.topic
        metrics.consumers.labels(topic).set(topic_consumers)
        metrics.active_consumers.labels(topic).set(topic_consumers)
        metrics.subscription_consumers.labels(topic, subscription.state.name).set(
            len(subscription.dispatch.attached)
        )

    def _subscription(self, consumer_id: int) -> ActiveSubscription:
        subscription = self._context.subscription_of(consumer_id)
        if subscription is None:
            raise NotFound(f"consumer {consumer_id} does not exist")
        return subscription


def consumer_found(subscription: ActiveSubscription, consumer_id: int) -> ConsumerFound:
    """Return a consumer of the subscription as a reply."""
    consumer = subscription.dispatch.consumers[consumer_id]
    return ConsumerFound(
        consumer_id=consumer_id,
        consumer_name=consumer.name,
        topic=subscription.topic,
        subscription=subscription.state.name,
        reliable=isinstance(subscription.dispatch, ReliableDispatch),
        attached=consumer.session is not None,
        generation=subscription.state.generation,
        prefetch=subscription.state.prefetch,
        session=consumer.session.session if consumer.session else 0,
    )
