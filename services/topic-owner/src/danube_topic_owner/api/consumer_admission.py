"""Admission of consumers: checks subscription types, names and limits. Pure: changes are events."""

from __future__ import annotations

from collections.abc import Mapping

from danube_common.cluster.records import Topic
from danube_common.errors import LimitExceeded, Refused
from danube_common.model.bundle import Bundle
from danube_common.model.policies import Policies
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.subscription import SubscriptionType, check_key_filters
from danube_common.wire.owner.sessions import CreateConsumer
from danube_topic_owner.api.admission import Admission, check_limit, unused_id
from danube_topic_owner.delivery.subscription import ActiveSubscription
from danube_topic_owner.journal.events import ConsumerCreated, ConsumerRemoved, Event, SubscriptionCreated
from danube_topic_owner.journal.state import BundleState, SubscriptionState

CONSUMERS_ABSENT_MAX = 1_000
"""Consumer names remembered per subscription that are not connected: tools make a new name each time."""
CONSUMERS_PER_SUBSCRIPTION_MAX = 10_000
"""Consumer names remembered per subscription, connected or not."""
SUBSCRIPTIONS_PER_TOPIC_MAX = 10_000


def admit_consumer(
    bundle: Bundle,
    state: BundleState,
    topic: Topic,
    request: CreateConsumer,
    active: Mapping[str, ActiveSubscription],
    policies: Policies,
    now: float,
    *,
    earliest: int,
) -> Admission:
    """Return the existing consumer of this name, or a new one, with its subscription if that is new too.

    ``active`` holds the topic's active subscriptions by name. ``earliest`` is the mark-delete of a new one.

    Raises:
        InvalidInput: the key filters are of no use.
        Refused: the subscription is of another type, or exclusive and taken, or another client took over.
        LimitExceeded: a policy or bound is reached.
    """
    filters = check_key_filters(request.subscription_type, request.key_filters)
    subscription = state.subscription(topic.topic_id, request.subscription)
    events: list[Event] = []
    own: int | None = None
    if subscription is None:
        events.append(
            admit_subscription(
                state, topic, request.subscription, request.subscription_type, policies, earliest
            )
        )
    else:
        if subscription.subscription_type is not request.subscription_type:
            raise Refused(
                f"subscription {request.subscription!r} is {subscription.subscription_type.label},"
                f" not {request.subscription_type.label}"
            )
        own = next((i for i, name in subscription.consumers.items() if name == request.consumer_name), None)
    _check_consumer_limits(topic, request, active, policies, own, now)
    if request.subscription in active:
        dispatch = active[request.subscription].dispatch
        dispatch.check_exclusive(request.consumer_name, now)
        if own is not None:
            dispatch.consumers[own].check_client(request.client)
    created = (topic.topic_id, request.subscription)
    if own is not None:
        if subscription is not None and subscription.key_filters.get(own, ()) != filters:
            events.append(ConsumerCreated(*created, own, request.consumer_name, filters))
        return Admission(own, events)
    if subscription is not None and _is_full(subscription, active.get(request.subscription), now):
        events.append(ConsumerRemoved(_oldest_absent(active[request.subscription], now)))
    parts = ("consumer", request.topic, request.subscription, request.consumer_name)
    consumer_id = unused_id(bundle, state.consumer, *parts)
    events.append(ConsumerCreated(*created, consumer_id, request.consumer_name, filters))
    return Admission(consumer_id, events)


def admit_subscription(
    state: BundleState,
    topic: Topic,
    name: str,
    subscription_type: SubscriptionType,
    policies: Policies,
    mark_delete: int,
    prefetch: int = 0,
) -> SubscriptionCreated:
    """Return the event that creates a subscription. Raises LimitExceeded."""
    known = state.topics.get(topic.topic_id)
    count, generation = (len(known.subscriptions), known.generation) if known else (0, 0)
    shown = f"topic {topic.name} has {count} subscriptions"
    check_limit("max_subscriptions_per_topic", policies.max_subscriptions_per_topic, count, shown)
    check_limit("subscriptions_per_topic", SUBSCRIPTIONS_PER_TOPIC_MAX, count, shown)
    return SubscriptionCreated(
        topic.topic_id, topic.name, name, subscription_type, mark_delete, prefetch, generation
    )


def starting_mark(topic: Topic, state: BundleState) -> int:
    """Return a position that is before the topic's first message."""
    if not topic.strategy.is_reliable or topic.created_ms <= state.log_restarted_ms:
        return BEFORE_ALL
    return end_of_sequence(topic.log_floor)


def _check_consumer_limits(
    topic: Topic,
    request: CreateConsumer,
    active: Mapping[str, ActiveSubscription],
    policies: Policies,
    own: int | None,
    now: float,
) -> None:
    topic_limit, limit = policies.max_consumers_per_topic, policies.max_consumers_per_subscription
    if not topic_limit and not limit:
        return
    others = {
        name: sum(consumer.consumer_id != own for consumer in subscription.dispatch.present(now))
        for name, subscription in active.items()
    }
    total, count = sum(others.values()), others.get(request.subscription, 0)
    shown = f"topic {topic.name} has {total} consumers"
    check_limit("max_consumers_per_topic", topic_limit, total, shown)
    shown = f"subscription {request.subscription!r} has {count} consumers"
    check_limit("max_consumers_per_subscription", limit, count, shown)


def _is_full(state: SubscriptionState, active: ActiveSubscription | None, now: float) -> bool:
    count = len(state.consumers)
    if count < CONSUMERS_ABSENT_MAX or active is None:
        return False
    absent = count - len(active.dispatch.present(now))
    return absent >= CONSUMERS_ABSENT_MAX or count >= CONSUMERS_PER_SUBSCRIPTION_MAX


def _oldest_absent(subscription: ActiveSubscription, now: float) -> int:
    for consumer in subscription.dispatch.consumers.values():
        if not consumer.present(now) and not consumer.unacked:
            return consumer.consumer_id
    raise LimitExceeded(
        "consumers_per_subscription",
        f"subscription {subscription.state.name!r} has {CONSUMERS_PER_SUBSCRIPTION_MAX} consumers",
    )
