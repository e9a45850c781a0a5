"""Streams of consumers at gateways: attach, detach, sync, and gateways that fell silent."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from danube_common.errors import NotFound
from danube_common.wire.envelope import Done
from danube_common.wire.owner import GATEWAY_SILENCE_S, Attach, ConsumerFound, Credit, Detach, Sync, Synced
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription

SWEEP_INTERVAL_S = 0.5

_log = structlog.get_logger(__name__)


class Sessions:
    """Which gateway holds which consumers' streams."""

    def __init__(self, owner: BundleOwner) -> None:
        self._owner = owner
        self._heard: dict[str, float] = {}
        self._held: dict[str, set[int]] = defaultdict(set)

    def attach(self, request: Attach) -> ConsumerFound:
        """Raises NotFound, Refused."""
        owner = self._owner
        subscription = self._subscription(request.consumer_id)
        superseded = subscription.dispatch.attach(request, owner.clock())
        if superseded is not None:
            self._held[superseded.gateway].discard(request.consumer_id)
            owner.tell_superseded(superseded, "another stream of this consumer took over")
        self._heard[request.gateway] = owner.clock()
        self._held[request.gateway].add(request.consumer_id)
        self._changed(subscription)
        return consumer_found(subscription, request.consumer_id)

    def detach(self, request: Detach) -> Done:
        subscription = self._owner.subscription_of(request.consumer_id)
        if subscription is not None and subscription.dispatch.detach(request.consumer_id, request.session):
            for held in self._held.values():
                held.discard(request.consumer_id)
            self._changed(subscription)
        return Done()

    def sync(self, request: Sync) -> Synced:
        """Take in the credit of all sessions of a gateway; those it no longer names are over."""
        owner = self._owner
        self._heard[request.gateway] = owner.clock()
        unknown: list[int] = []
        sent: dict[int, int] = {}
        for state in request.sessions:
            subscription = owner.subscription_of(state.consumer_id)
            if subscription is None or not subscription.dispatch.grant(state):
                unknown.append(state.consumer_id)
                continue
            session = subscription.dispatch.consumers[state.consumer_id].session
            sent[state.consumer_id] = session.number if session else 0
            owner.dispatcher.mark_ready(subscription)
        named = {state.consumer_id for state in request.sessions}
        held = self._held[request.gateway]
        for consumer_id in held - named:
            held.discard(consumer_id)
            self._drop(request.gateway, consumer_id)
        return Synced(unknown, sent)

    def credit(self, request: Credit) -> Done:
        for state in request.sessions:
            subscription = self._owner.subscription_of(state.consumer_id)
            if subscription is not None and subscription.dispatch.grant(state):
                self._owner.dispatcher.mark_ready(subscription)
        return Done()

    async def run(self) -> None:
        """End the sessions of gateways that fell silent, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.sweep()

    def sweep(self) -> None:
        """End the sessions of gateways that were not heard for GATEWAY_SILENCE_S."""
        now = self._owner.clock()
        for gateway, heard in list(self._heard.items()):
            if now - heard > GATEWAY_SILENCE_S:
                held = self._held.pop(gateway, set())
                del self._heard[gateway]
                if held:
                    _log.warning("gateway_silent", gateway=gateway, consumers=len(held))
                for consumer_id in held:
                    self._drop(gateway, consumer_id)

    def _drop(self, gateway: str, consumer_id: int) -> None:
        subscription = self._owner.subscription_of(consumer_id)
        consumer = subscription.dispatch.consumers.get(consumer_id) if subscription else None
        if subscription is None or consumer is None or consumer.session is None:
            return
        if consumer.session.gateway == gateway:
            subscription.dispatch.detach(consumer_id, consumer.session.session)
            self._changed(subscription)

    def _changed(self, subscription: ActiveSubscription) -> None:
        self._owner.dispatcher.mark_ready(subscription)
        topic_consumers = sum(
            len(each.dispatch.attached)
            for each in self._owner.subscriptions.get(subscription.topic_id, {}).values()
        )
        self._owner.metrics.consumers.labels(subscription.topic).set(topic_consumers)

    def _subscription(self, consumer_id: int) -> ActiveSubscription:
        subscription = self._owner.subscription_of(consumer_id)
        if subscription is None:
            raise NotFound(f"consumer {consumer_id} does not exist")
        return subscription


def consumer_found(subscription: ActiveSubscription, consumer_id: int) -> ConsumerFound:
    """What a gateway is told of a consumer."""
    consumer = subscription.dispatch.consumers[consumer_id]
    return ConsumerFound(
        consumer_id=consumer_id,
        consumer_name=consumer.name,
        topic=subscription.topic,
        subscription=subscription.state.name,
        reliable=isinstance(subscription.dispatch, ReliableDispatch),
        attached=consumer.session is not None,
    )
