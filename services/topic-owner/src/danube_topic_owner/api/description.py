"""What an owner tells people of a topic."""

from __future__ import annotations

from danube_common.cluster.records import Topic
from danube_common.model.position import SEQUENCE_MAX, end_of_sequence
from danube_common.wire.owner import SubscriptionDetail, TopicDescription
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription

END = end_of_sequence(SEQUENCE_MAX)


async def describe(owner: BundleOwner, topic: Topic) -> TopicDescription:
    """Raises LogUnavailable."""
    known = sorted(owner.subscriptions.get(topic.topic_id, {}).items())
    places = {
        name: after
        for name, each in known
        if isinstance(each, LogSubscription) and (after := each.unread_after) is not None
    }
    read = {name: _read(each) for name, each in known}
    counts = await owner.starts.counts_after(topic, list(places.values()))
    unread = dict(zip(places, counts, strict=True))
    bounds = await owner.log_bounds()
    return TopicDescription(
        topic.name,
        topic.topic_id,
        topic.bundle,
        owner.epoch,
        owner.producers.alive_names(topic.topic_id, owner.clock()),
        [_detail(owner, each, read[name], *unread.get(name, (0, True))) for name, each in known],
        bounds.first_sequence,
        bounds.last_sequence,
        owner.past.cuts.archived_through if owner.past.cuts is not None else 0,
    )


def _read(subscription: ActiveSubscription) -> int:
    """Messages that were read for it and are not acknowledged, less those acknowledged and not read."""
    if not isinstance(subscription, LogSubscription):
        return subscription.dispatch.waiting
    return subscription.dispatch.unacked_read - subscription.dispatch.cursor.acked_unread(END)


def _detail(
    owner: BundleOwner, subscription: ActiveSubscription, read: int, unread: int, exact: bool
) -> SubscriptionDetail:
    state = subscription.state
    dispatch = subscription.dispatch
    reliable = dispatch if isinstance(dispatch, ReliableDispatch) else None
    return SubscriptionDetail(
        name=state.name,
        subscription_type=state.subscription_type,
        consumers=[consumer.name for consumer in dispatch.attached],
        mark_delete=reliable.cursor.mark_delete if reliable else 0,
        backlog=max(read + unread, 0),
        backlog_exact=exact,
        unacked=reliable.unacked if reliable else 0,
        lost=state.lost,
        blocked=owner.past.obstacle(subscription.key),
    )
