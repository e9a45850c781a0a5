"""Describes a topic for operators: its producers, subscriptions, backlog and log."""

from __future__ import annotations

from danube_common.cluster.records import Topic
from danube_common.model.position import SEQUENCE_MAX, end_of_sequence
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.topics import SubscriptionDetail, TopicDescription
from danube_topic_owner.api.producers import Producers
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.key_shared import KeySharedDispatch
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription

END = end_of_sequence(SEQUENCE_MAX)


async def describe(
    context: OwnerContext, archive_catchup: ArchiveCatchUp, producers: Producers, topic: Topic
) -> TopicDescription:
    """Return what the owner of a topic knows of it. Raises LogUnavailable."""
    known = sorted(context.subscriptions.get(topic.topic_id, {}).items())
    read_to = {
        name: after
        for name, each in known
        if isinstance(each, LogSubscription) and (after := each.unread_after) is not None
    }
    read = {name: _read(each) for name, each in known}
    counts = await archive_catchup.starts.counts_after(topic, list(read_to.values()))
    unread = dict(zip(read_to, counts, strict=True))
    manifest = archive_catchup.manifest
    bounds = await context.ports.log.bounds(context.bundle)
    return TopicDescription(
        topic.name,
        topic.topic_id,
        topic.bundle,
        context.epoch,
        producers.alive(topic.topic_id, context.clock()),
        [_detail(each, read[name], *unread.get(name, (0, True))) for name, each in known],
        bounds.first_sequence,
        bounds.last_sequence,
        manifest.archived_through if manifest is not None else 0,
    )


def _read(subscription: ActiveSubscription) -> int:
    """Return the messages read and not acknowledged, less those acknowledged and not read."""
    if not isinstance(subscription, LogSubscription):
        return subscription.dispatch.waiting
    cursor = subscription.dispatch.cursor
    return cursor.unacked_through(END) - cursor.acked_unread(END)


def _blocked(subscription: ActiveSubscription) -> str:
    """Return why messages wait, in words; empty if nothing is known."""
    if not isinstance(subscription, LogSubscription):
        return ""
    dispatch = subscription.dispatch
    reasons = [
        _poison(dispatch),
        _unmatched(dispatch),
        f"poison is not dead-lettered: {problem}" if (problem := subscription.poison_problem) else "",
        subscription.read_block.reason if subscription.read_block else "",
    ]
    if dispatch.paused:
        unacked = dispatch.unacked + dispatch.retries.held
        reasons.append(f"{unacked} messages are delivered or failed and not acknowledged: delivery waits")
    return "; ".join(filter(None, reasons))


def _poison(dispatch: ReliableDispatch) -> str:
    blocked, first = dispatch.retries.blocked, dispatch.retries.first_blocked
    if first is None:
        return ""
    reason = f" ({first.reason})" if first.reason else ""
    failed = f"failed {first.failures} times{reason}"
    if dispatch.ordered:
        return f"the message at position {first.position} {failed}: it blocks what follows it"
    others = " and blocks its key" if dispatch.subscription_type is SubscriptionType.KEY_SHARED else ""
    which = f"the first, at position {first.position}, {failed}{others}"
    return f"{blocked} messages are not delivered again; {which}"


def _unmatched(dispatch: ReliableDispatch) -> str:
    if not isinstance(dispatch, KeySharedDispatch):
        return ""
    count, key = dispatch.unmatched
    if not count:
        return ""
    return f"{count} messages wait for a consumer whose key filters match, for example key {key[:100]!r}"


def _detail(subscription: ActiveSubscription, read: int, unread: int, exact: bool) -> SubscriptionDetail:
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
        lost=subscription.losses[0],
        blocked=_blocked(subscription),
        prefetch=state.prefetch,
        failed=reliable.retries.held if reliable else 0,
        holes=reliable.cursor.holes if reliable else 0,
        acked_ahead=reliable.cursor.acked_ahead if reliable else 0,
        key_filters={each.name: each.key_filters for each in dispatch.attached if each.key_filters},
    )
