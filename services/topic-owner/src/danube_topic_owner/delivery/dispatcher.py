"""Dispatches the subscriptions that are ready, once per turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from danube_common.model.failure_policy import PoisonPolicy
from danube_common.model.names import TopicName
from danube_common.model.policies import Policies
from danube_common.model.rate_limit import TokenBucket
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch
from danube_topic_owner.delivery.outbox import Outbox
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription, Key, LogSubscription
from danube_topic_owner.owner_metrics import OwnerMetrics


class Dispatcher:
    """Dispatches subscriptions after `mark_ready`, within the rates that policies allow.

    Args:
        outbox: where deliveries go.
        policies: the policies of a topic.
        clock: monotonic seconds.
        metrics: of this process.
        on_lagging: called when a subscription that is behind the log's tail has room for messages.
        on_poison: called when a subscription has messages to drop or to dead-letter.
        may_deliver: whether deliveries are allowed at this moment.
    """

    def __init__(
        self,
        outbox: Outbox,
        policies: Callable[[TopicName], Policies],
        *,
        clock: Callable[[], float],
        metrics: OwnerMetrics,
        on_lagging: Callable[[], None],
        on_poison: Callable[[LogSubscription], None],
        may_deliver: Callable[[], bool],
    ) -> None:
        self._outbox = outbox
        self._policies = policies
        self._clock = clock
        self._metrics = metrics
        self._on_lagging = on_lagging
        self._on_poison = on_poison
        self._may_deliver = may_deliver
        self._ready: dict[Key, ActiveSubscription] = {}
        self._lagging: dict[Key, LogSubscription] = {}
        self._topic_rates: dict[int, TokenBucket] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._flush_planned = False
        self._closed = False

    def mark_ready(self, subscription: ActiveSubscription) -> None:
        """Dispatch the subscription at the end of this turn of the loop.

        To be called after each message, acknowledgement, grant of credit and change of streams.
        """
        self._ready[subscription.key] = subscription
        self._plan_flush()

    def resume(self) -> None:
        """Dispatch what waited while deliveries were not allowed."""
        if self._ready:
            self._plan_flush()

    def lagging(self) -> list[LogSubscription]:
        """Return the subscriptions behind the log's tail that have a consumer."""
        return list(self._lagging.values())

    def forget(self, subscription: ActiveSubscription) -> None:
        """Dispatch the subscription no more, until it is marked ready again."""
        self._ready.pop(subscription.key, None)
        self._lagging.pop(subscription.key, None)
        if (timer := self._timers.pop(subscription.key, None)) is not None:
            timer.cancel()

    def forget_topic(self, topic_id: int) -> None:
        """Forget the rate of a deleted topic."""
        self._topic_rates.pop(topic_id, None)

    def close(self) -> None:
        """Dispatch nothing more: the next owner sends what waits."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _plan_flush(self) -> None:
        if not self._flush_planned and not self._closed:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

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
                if isinstance(dispatch, ReliableDispatch) and dispatch.retries:
                    outgoing.failures = dispatch.retries.failures_of(outgoing.runs)
                self._outbox.deliver(outgoing)
            self._count(subscription)
            if isinstance(subscription, LogSubscription):
                self._update_lagging(subscription)
                self._look_at_failures(subscription, now)
            if dispatch.waiting and dispatch.attached and (wait_s := max(b.wait_s(now) for b in buckets)):
                self._dispatch_later(wait_s, subscription)
        self._outbox.flush()

    def _update_lagging(self, subscription: LogSubscription) -> None:
        if subscription.at_tail or not subscription.dispatch.attached:
            self._lagging.pop(subscription.key, None)
            return
        self._lagging[subscription.key] = subscription
        if subscription.wants_backlog:
            self._on_lagging()

    def _look_at_failures(self, subscription: LogSubscription, now: float) -> None:
        dispatch = subscription.dispatch
        if dispatch.retries.has_changes:
            subscription.mark_dirty(subscription)
        if dispatch.retries.has_dead:
            self._on_poison(subscription)
        if (wake_at := dispatch.wake_at) is not None:
            self._dispatch_later(wake_at - now, subscription)

    def _dispatch_later(self, wait_s: float, subscription: ActiveSubscription) -> None:
        """Dispatch again when the rates allow the next message, or a redelivery or a timeout is due."""

        def ready() -> None:
            del self._timers[subscription.key]
            self.mark_ready(subscription)

        loop = asyncio.get_running_loop()
        at = loop.time() + wait_s
        if (timer := self._timers.get(subscription.key)) is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timers[subscription.key] = loop.call_at(at, ready)

    def _buckets(self, subscription: ActiveSubscription, now: float) -> tuple[TokenBucket, TokenBucket]:
        policies = self._policies(TopicName.parse(subscription.topic))
        topic_rate = self._topic_rates.get(subscription.topic_id)
        if topic_rate is None:
            topic_rate = self._topic_rates[subscription.topic_id] = TokenBucket(0, now)
        topic_rate.set_rate(policies.max_dispatch_rate, now)
        subscription.rate.set_rate(policies.max_subscription_dispatch_rate, now)
        return topic_rate, subscription.rate

    def _count(self, subscription: ActiveSubscription) -> None:
        dispatch, metrics = subscription.dispatch, self._metrics
        labels = (subscription.topic, subscription.state.name)
        if isinstance(dispatch, ReliableDispatch):
            metrics.unacked.labels(*labels).set(dispatch.unacked)
            self._count_failures(dispatch, labels)
            counter, total = metrics.redelivered, dispatch.redelivered
        elif isinstance(dispatch, NonReliableDispatch):
            counter, total = metrics.dropped, dispatch.dropped
        else:
            return
        if (grown := total - subscription.losses_counted) > 0:
            subscription.losses_counted = total
            counter.labels(*labels).inc(grown)

    def _count_failures(self, dispatch: ReliableDispatch, labels: tuple[str, str]) -> None:
        counts = dispatch.failure_figures
        if counts == dispatch.failures_told:
            return
        told, dispatch.failures_told = dispatch.failures_told, counts
        metrics = self._metrics
        metrics.nacked.labels(*labels).inc(counts.nacked - told.nacked)
        metrics.timed_out.labels(*labels).inc(counts.timed_out - told.timed_out)
        for policy, total, before in zip(PoisonPolicy, counts.exhausted, told.exhausted, strict=True):
            metrics.exhausted.labels(*labels, policy.name.lower()).inc(total - before)
