"""Answers what is asked of a bundle's subscriptions as such: made, moved, told of, deleted."""

from __future__ import annotations

from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, NotFound, Refused
from danube_common.model.names import check_label
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.subscription import StartPosition
from danube_common.wire.envelope import Done
from danube_common.wire.owner import (
    CreateSubscription,
    DescribeTopic,
    Floors,
    ListSubscriptions,
    OwnerReply,
    ResetSubscription,
    RetentionFloors,
    SubscriptionFound,
    SubscriptionInfo,
    Subscriptions,
    Unsubscribe,
)
from danube_topic_owner.api.consumer_admission import admit_subscription, starting_mark
from danube_topic_owner.api.description import describe
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.catchup.start_position import check_start
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription
from danube_topic_owner.journal.events import SubscriptionRemoved

SubscriptionRequest = (
    ListSubscriptions | Unsubscribe | CreateSubscription | ResetSubscription | DescribeTopic | RetentionFloors
)


class SubscriptionRequests:
    """What changes durable state is journaled before it is answered."""

    def __init__(self, owner: BundleOwner) -> None:
        self._owner = owner

    async def answer(self, request: SubscriptionRequest) -> OwnerReply:
        """Raises DanubeError: the refusal."""
        match request:
            case ListSubscriptions(topic):
                return self._list(await self._owner.find_topic(topic))
            case Unsubscribe(topic, subscription):
                return await self._unsubscribe(await self._owner.find_topic(topic), subscription)
            case RetentionFloors():
                return await self._floors()
            case CreateSubscription():
                return await self._create(request)
            case ResetSubscription():
                return await self._reset(request)
            case DescribeTopic(topic):
                return await describe(self._owner, await self._owner.find_topic(topic))

    def _list(self, topic: Topic) -> Subscriptions:
        known = self._owner.subscriptions.get(topic.topic_id, {})
        return Subscriptions(
            [
                SubscriptionInfo(
                    name,
                    subscription.state.subscription_type,
                    [consumer.name for consumer in subscription.dispatch.attached],
                )
                for name, subscription in sorted(known.items())
            ]
        )

    async def _create(self, request: CreateSubscription) -> SubscriptionFound:
        owner, name = self._owner, request.subscription
        check_label(name, "subscription")
        topic = await owner.find_topic(request.topic)
        check_start(request.start, topic)
        mark_delete = await self._mark_delete(topic, request.start)
        known = owner.state.topics.get(topic.topic_id)
        state = known.subscriptions.get(name) if known is not None else None
        created = state is None
        if state is None:
            policies = owner.catalogue.policies(topic.topic_name)
            kind = request.subscription_type
            event = admit_subscription(owner.state, topic, name, kind, policies, mark_delete)
            owner.writer.record(event)
            state = owner.state.topics[topic.topic_id].subscriptions[name]
        elif state.subscription_type is not request.subscription_type:
            raise AlreadyExists(f"subscription {name!r} is {state.subscription_type.name.lower()}")
        owner.activate(topic, state)
        await owner.writer.flushed()
        return SubscriptionFound(name, created, state.mark_delete)

    async def _reset(self, request: ResetSubscription) -> SubscriptionFound:
        owner, name = self._owner, request.subscription
        topic = await owner.find_topic(request.topic)
        subscription = self._subscription(topic, name)
        if not isinstance(subscription, LogSubscription):
            raise Refused(f"topic {topic.name} keeps no messages: there is nothing to go back or forward to")
        check_start(request.start, topic)
        mark_delete = await self._mark_delete(topic, request.start)
        if self._subscription(topic, name) is not subscription:
            raise NotFound(f"subscription {name!r} was deleted")
        owner.reset(subscription, mark_delete)
        await owner.writer.flushed()
        return SubscriptionFound(name, created=False, mark_delete=mark_delete)

    async def _mark_delete(self, topic: Topic, start: StartPosition) -> int:
        oldest = starting_mark(topic, self._owner.state)
        if not topic.strategy.is_reliable:
            return oldest
        return await self._owner.starts.mark_delete(topic, start, oldest)

    def _subscription(self, topic: Topic, name: str) -> ActiveSubscription:
        subscription = self._owner.subscriptions.get(topic.topic_id, {}).get(name)
        if subscription is None:
            raise NotFound(f"topic {topic.name} has no subscription {name!r}")
        return subscription

    async def _floors(self) -> Floors:
        """What is answered is durable by then: retention deletes up to it.

        A subscription with nothing open is as far as the log was read, wherever its cursor was left: else
        a quiet topic would keep the messages of all others.
        """
        owner = self._owner
        floors = {
            topic_id: min(self._open_after(each) for each in active.values())
            for topic_id, active in owner.subscriptions.items()
            if any(isinstance(each, LogSubscription) for each in active.values())
        }
        await owner.writer.flushed()
        return Floors(floors)

    def _open_after(self, subscription: ActiveSubscription) -> int:
        """Everything at or below it needs no delivery any more, once what is recorded now is journaled."""
        if not isinstance(subscription, LogSubscription):
            return BEFORE_ALL
        after = subscription.open_after
        return end_of_sequence(self._owner.reader.tail) if after is None else after

    async def _unsubscribe(self, topic: Topic, name: str) -> Done:
        owner = self._owner
        subscription = self._subscription(topic, name)
        if connected := subscription.dispatch.attached:
            raise Refused(f"subscription {name!r} has a connected consumer, {connected[0].name!r}")
        owner.drop_subscription(subscription)
        owner.writer.record(SubscriptionRemoved(topic.topic_id, name))
        await owner.writer.flushed()
        return Done()
