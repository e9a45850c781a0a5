"""Moves subscriptions past messages that are no longer retained, and reports how many messages each lost."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.errors import JournalFenced, Unavailable
from danube_common.model.position import end_of_sequence, sequence_of
from danube_topic_owner.catchup.expiry import RetentionGap, gone_after
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal.events import MessagesLost

RETRY_WAIT_S = 0.5
MISSING_DOUBT_S = 10.0
"""How long sequences may be in neither the log nor the manifest before they are given up as lost."""

_log = structlog.get_logger(__name__)


def whole_sequences(position: int) -> int:
    """Return the last log sequence that lies at or below ``position`` as a whole."""
    sequence = sequence_of(position)
    return sequence if position == end_of_sequence(sequence) else sequence - 1


class Loss(NamedTuple):
    """What a subscription lost: at least ``messages`` (0: perhaps none), all at or below ``through``."""

    subscription: LogSubscription
    messages: int
    through: int


class Expirer:
    """Checks subscriptions after retention deleted something, and moves cursors past what is gone.

    Args:
        context: of the bundle.
        manifest: of the bundle; None for the memory family.
    """

    def __init__(self, context: OwnerContext, manifest: Manifest | None) -> None:
        self._context = context
        self._manifest = manifest
        self._missing_since_s: float | None = None
        self._due: set[int | None] = set()
        self._wake = asyncio.Event()

    def check(self, topic_id: int | None = None) -> None:
        """Check the subscriptions of a topic, or of the bundle (None), soon."""
        self._due.add(topic_id)
        self._wake.set()

    async def run(self) -> None:
        """Check what `check` was called for, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            try:
                floor = await self._confirmed_floor()
                topics = {None} if None in due else due
                found = [each for topic in topics for each in self._context.log_subscriptions(topic)]
                losses = [loss for each in found if (loss := self._expire(each, floor)) is not None]
                if any(loss.messages for loss in losses):
                    await self._context.writer.flushed()
                for loss in losses:
                    self._report(loss)
            except JournalFenced:
                return
            except Unavailable as error:
                _log.warning("expiry_check_retried", bundle=str(self._context.bundle), error=str(error))
                self._due |= due
                await asyncio.sleep(RETRY_WAIT_S)
                self._wake.set()

    async def _confirmed_floor(self) -> int:
        """The sequence up to which everything is in the manifest view or lost.

        The log is purged only of what is archived. Sequences below the log's floor that the view lacks count
        as lost after MISSING_DOUBT_S, and until then as retained. Raises MetadataUnavailable.
        """
        floor = self._context.extent.floor
        if self._manifest is None:
            return floor
        if self._manifest.archived_through + 1 < floor:
            await self._manifest.refresh()
        archived_to = self._manifest.archived_through + 1
        if archived_to >= floor:
            self._missing_since_s = None
            return floor
        now = asyncio.get_running_loop().time()
        if self._missing_since_s is None:
            self._missing_since_s = now
        return floor if now - self._missing_since_s >= MISSING_DOUBT_S else archived_to

    def _gap(self, subscription: LogSubscription, floor: int) -> tuple[RetentionGap | None, bool]:
        """The gap that the subscription still needs messages of, and whether all of them are unread.

        They are all unread when messages before the gap were read, are not acknowledged and are retained.
        """
        topic = self._context.catalogue.topic_by_id(subscription.topic_id)
        if topic is None or (after := subscription.open_after) is None:
            return None, False
        gap = gone_after(self._manifest, topic, after, floor)
        unread_after = subscription.unread_after
        if gap is not None or unread_after is None or unread_after <= after:
            return gap, False
        return gone_after(self._manifest, topic, unread_after, floor), True

    def _expire(self, subscription: LogSubscription, floor: int) -> Loss | None:
        """Move the cursor past the gap, and journal what is known to be lost; None if there is no gap."""
        gap, unread_only = self._gap(subscription, floor)
        if gap is None:
            return None
        cursor, through, unread_after = subscription.dispatch.cursor, gap.through, subscription.unread_after
        messages = 0
        if unread_after is not None:
            passed = subscription.missed.between(subscription.next_sequence, whole_sequences(through))
            messages = max(gap.messages_after(unread_after), passed) - cursor.acked_unread(through)
            messages = max(messages, 0)
        if unread_only:
            subscription.skip(through)
        else:
            messages += cursor.unacked_through(through)
            subscription.expire(through)
        state = subscription.state
        if messages:
            self._context.writer.record(
                MessagesLost(subscription.topic_id, state.name, state.lost + messages)
            )
        self._context.dispatcher.mark_ready(subscription)
        return Loss(subscription, messages, through)

    def _report(self, loss: Loss) -> None:
        topic, name = loss.subscription.topic, loss.subscription.state.name
        if not loss.messages:
            # A shared segment or a memory log may have held nothing of the topic.
            _log.info(
                "subscription_moved_past_deleted_range",
                topic=topic,
                subscription=name,
                through_position=loss.through,
            )
            return
        self._context.metrics.expired.labels(topic, name).inc(loss.messages)
        _log.warning(
            "subscription_lost_expired_messages",
            topic=topic,
            subscription=name,
            lost_at_least=loss.messages,
            through_position=loss.through,
        )
