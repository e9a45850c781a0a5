"""Answers what is asked of a bundle's subscriptions as such: made, moved, told of, deleted."""

from __future__ import annotations

from danube_common.errors import NotFound, Refused, Unavailable
from danube_common.owner_protocol import (
    CreateSubscription,
    DescribeTopic,
    Done,
    Floors,
    ListSubscriptions,
    OwnerReply,
    ResetSubscription,
    RetentionFloors,
    SubscriptionInfo,
    Subscriptions,
    Unsubscribe,
)
from danube_common.records import Topic
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.events import SubscriptionRemoved

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
            case CreateSubscription() | ResetSubscription() | DescribeTopic():
                raise Unavailable(f"{type(request).__name__} is not answered yet")

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

    async def _floors(self) -> Floors:
        """What is answered is durable by then: retention deletes up to it."""
        floors = {
            topic.topic_id: min(each.mark_delete for each in topic.subscriptions.values())
            for topic in self._owner.state.topics.values()
            if topic.subscriptions
        }
        await self._owner.writer.flushed()
        return Floors(floors)

    async def _unsubscribe(self, topic: Topic, name: str) -> Done:
        owner = self._owner
        subscription = owner.subscriptions.get(topic.topic_id, {}).get(name)
        if subscription is None:
            raise NotFound(f"topic {topic.name} has no subscription {name!r}")
        if connected := subscription.dispatch.attached:
            raise Refused(f"subscription {name!r} has a connected consumer, {connected[0].name!r}")
        owner.drop_subscription(subscription)
        owner.writer.record(SubscriptionRemoved(topic.topic_id, name))
        await owner.writer.flushed()
        return Done()
