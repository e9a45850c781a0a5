"""Dispatches what is ready, once per turn of the loop, within the rates that policies allow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from danube_common.model.names import TopicName
from danube_common.model.policies import Policies
from danube_common.model.rate_limit import TokenBucket
from danube_topic_owner.delivery.dispatch import Dispatch
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.delivery.outbox import Outbox
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription
from danube_topic_owner.owner_metrics import OwnerMetrics

Key = tuple[int, str]
"""Topic id and subscription name."""


class Dispatcher:
    """What may let a message go (a message, an acknowledgement, credit, a stream) ends in `mark_ready`."""

    def __init__(
        self,
        outbox: Outbox,
        policies: Callable[[TopicName], Policies],
        *,
        clock: Callable[[], float],
        metrics: OwnerMetrics,
        on_backlog: Callable[[], None],
        may_deliver: Callable[[], bool] = lambda: True,
    ) -> None:
        self._outbox = outbox
        self._policies = policies
        self._clock = clock
        self._metrics = metrics
        self._on_backlog = on_backlog
        self._may_deliver = may_deliver
        self._ready: dict[Key, ActiveSubscription] = {}
        self._lagging: dict[Key, LogSubscription] = {}
        self._topic_rates: dict[int, TokenBucket] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._flush_planned = False
        self._closed = False

    def mark_ready(self, subscription: ActiveSubscription) -> None:
        """Something changed: dispatch it at the end of this turn of the loop."""
        self._ready[subscription.key] = subscription
        self._plan_flush()

    def resume(self) -> None:
        """Deliveries may be allowed again: dispatch what waited."""
        if self._ready:
            self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned and not self._closed:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def lagging(self) -> list[LogSubscription]:
        """Subscriptions behind the log's tail that have a consumer."""
        return list(self._lagging.values())

    def forget(self, subscription: ActiveSubscription) -> None:
        """The subscription is no more."""
        for kept in (self._ready, self._lagging):
            kept.pop(subscription.key, None)
        if (timer := self._timers.pop(subscription.key, None)) is not None:
            timer.cancel()

    def forget_topic(self, topic_id: int) -> None:
        """The topic is no more; its subscriptions were forgotten."""
        self._topic_rates.pop(topic_id, None)

    def close(self) -> None:
        """Nothing is dispatched any more: what a flush under way would send is the next owner's to send."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _flush(self) -> None:
        self._flush_planned = False
        if self._closed or not self._may_deliver():
            return
        ready, self._ready = self._ready, {}
        now = self._clock()
        for subscription in ready.values():
            dispatch = subscription.dispatch
            buckets = self._buckets(subscription, now)
            for outgoing in dispatch.dispatch(now, buckets):
                self._outbox.deliver(outgoing)
            self._count(subscription)
            if isinstance(subscription, LogSubscription):
                self._after_dispatch(subscription)
            if dispatch.waiting and dispatch.attached and (wait_s := max(b.wait_s(now) for b in buckets)):
                self._later(wait_s, subscription)

    def _after_dispatch(self, subscription: LogSubscription) -> None:
        if subscription.at_tail or not subscription.dispatch.attached:
            self._lagging.pop(subscription.key, None)
            return
        self._lagging[subscription.key] = subscription
        if subscription.wants_backlog:
            self._on_backlog()

    def _later(self, wait_s: float, subscription: ActiveSubscription) -> None:
        """Dispatch again when the rates allow the next message."""

        def ready() -> None:
            del self._timers[subscription.key]
            self.mark_ready(subscription)

        if subscription.key not in self._timers:
            self._timers[subscription.key] = asyncio.get_running_loop().call_later(wait_s, ready)

    def _buckets(self, subscription: ActiveSubscription, now: float) -> tuple[TokenBucket, TokenBucket]:
        policies = self._policies(TopicName.parse(subscription.topic))
        topic_rate = self._topic_rates.get(subscription.topic_id)
        if topic_rate is None:
            topic_rate = self._topic_rates[subscription.topic_id] = TokenBucket(0, now)
        topic_rate.set_rate(policies.max_dispatch_rate, now)
        subscription.rate.set_rate(policies.max_subscription_dispatch_rate, now)
        return topic_rate, subscription.rate

    def _count(self, subscription: ActiveSubscription) -> None:
        dispatch = subscription.dispatch
        if isinstance(dispatch, ReliableDispatch):
            unacked = self._metrics.unacked.labels(subscription.topic, subscription.state.name)
            unacked.set(dispatch.unacked)
        if (grown := _losses(dispatch) - subscription.losses_counted) > 0:
            subscription.losses_counted += grown
            lost = isinstance(dispatch, NonReliableDispatch)
            family = self._metrics.dropped if lost else self._metrics.redelivered
            family.labels(subscription.topic, subscription.state.name).inc(grown)


def _losses(dispatch: Dispatch) -> int:
    """The count that grew by what was lost or repeated."""
    if isinstance(dispatch, NonReliableDispatch):
        return dispatch.dropped
    return dispatch.redelivered if isinstance(dispatch, ReliableDispatch) else 0
