"""Moves subscriptions on past messages that are retained no longer, and says how many each one lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.cluster.records import Topic
from danube_common.errors import JournalFenced, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.model.position import BEFORE_ALL, end_of_sequence
from danube_common.model.strategy import Retention
from danube_topic_owner.catchup.expiry import RetentionGap, SegmentSpan, gone_after
from danube_topic_owner.catchup.section_counts import SectionCounts
from danube_topic_owner.delivery.subscription import LogSubscription
from danube_topic_owner.journal.events import MessagesLost
from danube_topic_owner.journal.writer import JournalWriter
from danube_topic_owner.owner_metrics import OwnerMetrics

COUNTS_AT_ONCE_MAX = 8
COUNT_PATIENCE_S = 10.0
"""How long storage is asked what segments held; then a subscription moves on with what is known."""
RETRY_WAIT_S = 0.5
MISSING_DOUBT_S = 10.0
"""So long a part of a durable log may be in neither log nor catalogue before it is given up for lost."""
ATTEMPTS_MAX = 3
"""Times a count is made again because the subscription moved meanwhile."""

_log = structlog.get_logger(__name__)


class SegmentCounts(Protocol):
    """Who counts: `danube_topic_owner.catchup.history.History`."""

    async def count_after(
        self, topic: Topic, cut: ManifestEntry, record: SegmentRecord, after: int
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """``exact``: else ``messages`` is what is known of."""

    messages: int
    exact: bool


class Expirer:
    """Checks subscriptions when it is told that something went; each is told of once, when it is journaled.

    Args:
        bundle: for the log lines.
        cuts: the bundle's catalogue; None if it has none (memory family).
        counts: who knows what a segment held; None likewise.
        passed: what went by in the log, which is all that is known of what a volatile one held.
        floor: the log's first sequence, now.
        topic: the topic of an id, or None if it is no more.
        subscriptions: those of one topic, or all.
        writer: the bundle's journal.
        moved: called with each subscription that was moved on.
        metrics: where losses are counted.
    """

    def __init__(
        self,
        bundle: Bundle,
        cuts: Manifest | None,
        counts: SegmentCounts | None,
        passed: SectionCounts,
        *,
        floor: Callable[[], int],
        topic: Callable[[int], Topic | None],
        subscriptions: Callable[[int | None], Iterable[LogSubscription]],
        writer: JournalWriter,
        moved: Callable[[LogSubscription], None],
        metrics: OwnerMetrics,
    ) -> None:
        self._bundle = bundle
        self._cuts = cuts
        self._counts = counts
        self._passed = passed
        self._floor = floor
        self._topic = topic
        self._subscriptions = subscriptions
        self._writer = writer
        self._moved = moved
        self._metrics = metrics
        self._missing_since_s: float | None = None
        self._due: set[int | None] = set()
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(COUNTS_AT_ONCE_MAX)

    def check(self, topic_id: int | None = None) -> None:
        """Something of a topic, or of any (None), may be gone."""
        self._due.add(topic_id)
        self._wake.set()

    async def run(self) -> None:
        """Move on what must, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            try:
                floor = await self._sure_floor()
                found = [each for t in ({None} if None in due else due) for each in self._subscriptions(t)]
                behind = [each for each in found if self._stretch(each, floor)[0] is not None]
                await asyncio.gather(*(self._expire(each, floor) for each in behind))
                self._passed.forget(end_of_sequence(floor - 1) if None in due else BEFORE_ALL)
            except JournalFenced:
                return
            except Unavailable as error:
                _log.warning("expiry_check_retried", bundle=str(self._bundle), error=str(error))
                self._due |= due
                await asyncio.sleep(RETRY_WAIT_S)
                self._wake.set()

    async def _sure_floor(self) -> int:
        """The log's floor, as far as this view of the catalogue tells what became of what was below.

        What is purged from the log was catalogued before. If it is in no cut, the view is believed only
        after a while.

        Raises MetadataUnavailable.
        """
        floor = self._floor()
        if self._cuts is None:
            return floor
        if self._cuts.archived_through + 1 < floor:
            await self._cuts.refresh()
        archived_to = self._cuts.archived_through + 1
        if archived_to >= floor:
            self._missing_since_s = None
            return floor
        now = asyncio.get_running_loop().time()
        if self._missing_since_s is None:
            self._missing_since_s = now
        return floor if now - self._missing_since_s >= MISSING_DOUBT_S else archived_to

    def _stretch(self, subscription: LogSubscription, floor: int) -> tuple[RetentionGap | None, bool]:
        """What is gone of what the subscription still needs, and whether only of what it has not read.

        That is so when messages it has read, and needs, are retained before.
        """
        topic = self._topic(subscription.topic_id)
        if topic is None or (after := subscription.open_after) is None:
            return None, False
        stretch = gone_after(self._cuts, topic, after, floor)
        unread_after = subscription.unread_after
        if stretch is not None or unread_after is None or unread_after <= after:
            return stretch, False
        return gone_after(self._cuts, topic, unread_after, floor), True

    async def _expire(self, subscription: LogSubscription, floor: int) -> None:
        """Raises JournalFenced."""
        for _ in range(ATTEMPTS_MAX):
            topic, (stretch, unread_only) = (
                self._topic(subscription.topic_id),
                self._stretch(subscription, floor),
            )
            if topic is None or stretch is None:
                return
            unread_after = subscription.unread_after
            async with self._room:
                unread = await self._count(topic, stretch, unread_after)
            if subscription.unread_after == unread_after:
                break
        else:
            self.check(subscription.topic_id)
            return
        present = self._subscriptions(subscription.topic_id)
        if all(each is not subscription for each in present):
            return
        cursor, through = subscription.dispatch.cursor, stretch.through
        messages = max(unread.messages - cursor.acked_unread(through), 0)
        if unread_only:
            subscription.skip(through)
        else:
            messages += cursor.unacked_through(through)
            subscription.expire(through)
        name = subscription.state.name
        total = subscription.state.lost + messages
        self._writer.record(MessagesLost(subscription.topic_id, name, total))
        self._moved(subscription)
        await self._writer.flushed()
        self._tell(subscription, stretch, Loss(messages, unread.exact))

    def _tell(self, subscription: LogSubscription, stretch: RetentionGap, lost: Loss) -> None:
        if not lost.messages and lost.exact:
            return
        name = subscription.state.name
        self._metrics.expired.labels(subscription.topic, name).inc(lost.messages)
        _log.warning(
            "subscription_lost_expired_messages",
            topic=subscription.topic,
            subscription=name,
            lost=lost.messages,
            exact=lost.exact,
            through_position=stretch.through,
        )

    # Counting

    async def _count(self, topic: Topic, stretch: RetentionGap, after: int | None) -> Loss:
        """The messages of the stretch behind ``after``; none if that is None."""
        if after is None:
            return Loss(0, exact=True)
        pieces = [piece for piece in stretch.pieces if piece.last_position > after]
        messages, exact = 0, True
        try:
            async with asyncio.timeout(COUNT_PATIENCE_S):
                for piece in pieces:
                    found = await self._count_piece(topic, piece, after)
                    messages, exact = messages + found.messages, exact and found.exact
        except TimeoutError:
            return Loss(sum(piece.messages or 0 for piece in pieces), exact=False)
        return Loss(messages, exact)

    async def _count_piece(self, topic: Topic, piece: SegmentSpan, after: int) -> Loss:
        if piece.messages is not None and after < piece.first_position:
            return Loss(piece.messages, exact=True)
        while piece.record is not None and piece.cut is not None and self._counts is not None:
            try:
                return Loss(await self._counts.count_after(topic, piece.cut, piece.record, after), exact=True)
            except NotFound:
                break
            except Unavailable:
                await asyncio.sleep(RETRY_WAIT_S)
        if piece.messages is None and self._cuts is None:
            passed = self._passed.count(topic.topic_id, after, piece.last_position)
            if passed is not None:
                return Loss(passed, exact=True)
        return Loss(piece.messages or 0, exact=self._is_known_empty(topic, piece))

    @staticmethod
    def _is_known_empty(topic: Topic, piece: SegmentSpan) -> bool:
        """A topic that keeps messages until they are acknowledged has lost none where nothing is counted."""
        options = topic.strategy.reliable
        return piece.messages is None and options is not None and options.retention is Retention.UNTIL_ACK
