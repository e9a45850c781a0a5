"""Handles requests about subscriptions: list, create, reset, describe, delete, and the retention floors."""

from __future__ import annotations

from typing import Final

from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, InvalidInput, NotFound, Refused
from danube_common.model.failure_policy import check_failure_policy
from danube_common.model.names import check_label
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.subscription import StartPosition
from danube_common.wire.envelope import Done
from danube_common.wire.owner.subscriptions import (
    MAX_UNACKED_MESSAGES,
    CreateSubscription,
    DispatchConfigFound,
    FailurePolicyFound,
    GetDispatchConfig,
    GetFailurePolicy,
    ListSubscriptions,
    LossTotals,
    ResetSubscription,
    SetDispatchConfig,
    SetFailurePolicy,
    SubscriptionFound,
    SubscriptionInfo,
    Subscriptions,
    TellLosses,
    Unsubscribe,
)
from danube_common.wire.owner.topics import (
    BoundsFound,
    DescribeTopic,
    FindBounds,
    FindTopic,
    Floors,
    RetentionFloors,
    TopicDescription,
)
from danube_topic_owner.api.consumer_admission import admit_subscription, starting_mark
from danube_topic_owner.api.description import describe
from danube_topic_owner.api.producers import Producers
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.catchup.expiry import first_retained
from danube_topic_owner.catchup.sequence_fold import SequenceFold
from danube_topic_owner.catchup.start_positions import check_start
from danube_topic_owner.context import Handlers, OwnerContext
from danube_topic_owner.delivery.subscription import ActiveSubscription, LogSubscription
from danube_topic_owner.journal.events import (
    DispatchConfigSet,
    FailurePolicySet,
    LossesTold,
    SubscriptionRemoved,
)


class SubscriptionRequests:
    """Requests about a bundle's subscriptions. Changes are journaled before the reply.

    Attributes:
        handlers: by request type.
    """

    def __init__(
        self,
        context: OwnerContext,
        archive_catchup: ArchiveCatchUp,
        producers: Producers,
        sequences: SequenceFold,
    ) -> None:
        self.handlers: Final[Handlers] = {
            FindTopic: self._find_topic,
            ListSubscriptions: self._list,
            CreateSubscription: self._create,
            ResetSubscription: self._reset,
            SetFailurePolicy: self._set_failure_policy,
            GetFailurePolicy: self._get_failure_policy,
            SetDispatchConfig: self._set_dispatch_config,
            GetDispatchConfig: self._get_dispatch_config,
            TellLosses: self._tell_losses,
            Unsubscribe: self._unsubscribe,
            DescribeTopic: self._describe,
            FindBounds: self._find_bounds,
            RetentionFloors: self._floors,
        }
        self._context = context
        self._archive_catchup = archive_catchup
        self._producers = producers
        self._sequences = sequences

    def earliest(self, topic: Topic) -> int:
        """Return the mark-delete of a subscription that begins at the oldest retained message."""
        oldest = starting_mark(topic, self._context.state)
        manifest, floor = self._archive_catchup.manifest, self._context.extent.floor
        if not topic.strategy.is_reliable:
            return oldest
        if manifest is not None:
            # This view of the manifest may lack segments of messages that were purged from the log lately.
            floor = min(floor, manifest.archived_through + 1)
        return first_retained(manifest, topic, oldest, floor)

    async def _find_bounds(self, request: FindBounds) -> BoundsFound:
        context = self._context
        topic = await context.find_topic(request.topic)
        active = context.subscriptions.get(topic.topic_id, {}).values()
        earliest = end = 0
        if topic.strategy.is_reliable:
            bounds = await context.ports.log.bounds(context.bundle)
            earliest = self.earliest(topic) + 1
            end = max(end_of_sequence(bounds.last_sequence) + 1, earliest)
        consumers = sum(len(each.dispatch.attached) for each in active)
        return BoundsFound(earliest, end, consumers, len(active))

    async def _find_topic(self, request: FindTopic) -> Done:
        await self._context.find_topic(request.topic)
        return Done()

    async def _list(self, request: ListSubscriptions) -> Subscriptions:
        topic = await self._context.find_topic(request.topic)
        known = self._context.subscriptions.get(topic.topic_id, {})
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
        context, name = self._context, request.subscription
        check_label(name, "subscription")
        topic = await context.find_topic(request.topic)
        check_start(request.start, topic)
        mark_delete = await self._mark_delete(topic, request.start)
        state = context.state.subscription(topic.topic_id, name)
        created = state is None
        if state is None:
            policies = context.catalogue.policies(topic.topic_name)
            kind = request.subscription_type
            event = admit_subscription(
                context.state, topic, name, kind, policies, mark_delete, request.prefetch
            )
            context.writer.record(event)
            state = context.state.topics[topic.topic_id].subscriptions[name]
        elif state.subscription_type is not request.subscription_type:
            raise AlreadyExists(f"subscription {name!r} is {state.subscription_type.label}")
        context.activate(topic, state)
        await context.writer.flushed()
        return SubscriptionFound(name, created, state.mark_delete)

    async def _reset(self, request: ResetSubscription) -> SubscriptionFound:
        context, name = self._context, request.subscription
        topic = await context.find_topic(request.topic)
        subscription = self._subscription(topic, name)
        if not isinstance(subscription, LogSubscription):
            raise Refused(f"topic {topic.name} keeps no messages: there is nothing to go back or forward to")
        check_start(request.start, topic)
        mark_delete = await self._mark_delete(topic, request.start)
        if self._subscription(topic, name) is not subscription:
            raise NotFound(f"subscription {name!r} was deleted")
        context.reset(subscription, mark_delete)
        await context.writer.flushed()
        return SubscriptionFound(name, created=False, mark_delete=mark_delete)

    async def _set_failure_policy(self, request: SetFailurePolicy) -> Done:
        context = self._context
        topic = await context.find_topic(request.topic)
        subscription = self._log_subscription(topic, request.subscription)
        check_failure_policy(request.policy, topic.name)
        context.writer.record(FailurePolicySet(*subscription.key, request.policy))
        subscription.change_policy(request.policy, context.clock())
        context.dispatcher.mark_ready(subscription)
        await context.writer.flushed()
        return Done()

    async def _get_failure_policy(self, request: GetFailurePolicy) -> FailurePolicyFound:
        topic = await self._context.find_topic(request.topic)
        dispatch = self._log_subscription(topic, request.subscription).dispatch
        return FailurePolicyFound(dispatch.retries.policy, dispatch.subscription_type)

    async def _set_dispatch_config(self, request: SetDispatchConfig) -> Done:
        context = self._context
        topic = await context.find_topic(request.topic)
        subscription = self._log_subscription(topic, request.subscription)
        bound = request.max_unacked_messages
        if not 1 <= bound <= MAX_UNACKED_MESSAGES:
            raise InvalidInput(f"max_unacked_messages is 1 to {MAX_UNACKED_MESSAGES}, not {bound}")
        context.writer.record(DispatchConfigSet(*subscription.key, bound))
        subscription.dispatch.unacked_max = bound
        context.dispatcher.mark_ready(subscription)
        await context.writer.flushed()
        return Done()

    async def _get_dispatch_config(self, request: GetDispatchConfig) -> DispatchConfigFound:
        topic = await self._context.find_topic(request.topic)
        return DispatchConfigFound(
            self._log_subscription(topic, request.subscription).state.max_unacked_messages
        )

    async def _tell_losses(self, request: TellLosses) -> LossTotals:
        context, name = self._context, request.subscription
        topic = await context.find_topic(request.topic)
        subscription = self._subscription(topic, name)
        lost, told = subscription.losses
        if (reported := min(request.told, lost)) > told:
            if isinstance(subscription, LogSubscription):
                context.writer.record(LossesTold(topic.topic_id, name, reported))
                await context.writer.flushed()
            else:
                subscription.drops_told = reported
        return LossTotals(*subscription.losses)

    async def _mark_delete(self, topic: Topic, start: StartPosition) -> int:
        oldest = starting_mark(topic, self._context.state)
        if not topic.strategy.is_reliable:
            return oldest
        return await self._archive_catchup.starts.mark_delete(topic, start, oldest)

    def _subscription(self, topic: Topic, name: str) -> ActiveSubscription:
        subscription = self._context.subscriptions.get(topic.topic_id, {}).get(name)
        if subscription is None:
            raise NotFound(f"topic {topic.name} has no subscription {name!r}")
        return subscription

    def _log_subscription(self, topic: Topic, name: str) -> LogSubscription:
        subscription = self._subscription(topic, name)
        if not isinstance(subscription, LogSubscription):
            raise Refused(f"topic {topic.name} keeps no messages: what fails there is gone")
        return subscription

    async def _floors(self, _request: RetentionFloors) -> Floors:
        """Return the floors once they are durable, because retention deletes messages up to them.

        A subscription that awaits no acknowledgement counts as being at the log's tail, wherever its cursor
        is: otherwise a quiet topic would keep the messages of all others.
        """
        context = self._context
        floors = {
            topic_id: min(self._open_after(each) for each in active.values())
            for topic_id, active in context.subscriptions.items()
            if any(isinstance(each, LogSubscription) for each in active.values())
        }
        self._sequences.checkpoint()
        through = context.state.sequences.through
        await context.writer.flushed()
        return Floors(floors, through)

    def _open_after(self, subscription: ActiveSubscription) -> int:
        """Return the position up to which the subscription needs no message, once its cursor is journaled."""
        if not isinstance(subscription, LogSubscription):
            return BEFORE_ALL
        after = subscription.open_after
        return end_of_sequence(self._context.extent.tail) if after is None else after

    async def _unsubscribe(self, request: Unsubscribe) -> Done:
        context, name = self._context, request.subscription
        topic = await context.find_topic(request.topic)
        subscription = self._subscription(topic, name)
        if connected := subscription.dispatch.attached:
            raise Refused(f"subscription {name!r} has a connected consumer, {connected[0].name!r}")
        context.drop_subscription(subscription)
        context.writer.record(SubscriptionRemoved(topic.topic_id, name))
        await context.writer.flushed()
        return Done()

    async def _describe(self, request: DescribeTopic) -> TopicDescription:
        topic = await self._context.find_topic(request.topic)
        return await describe(self._context, self._archive_catchup, self._producers, topic)
