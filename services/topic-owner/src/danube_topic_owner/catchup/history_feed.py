"""Feeds the subscriptions that are below the log's floor from the archive, each topic by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, DanubeError, NotFound, Quarantined
from danube_common.model.position import position_of, sequence_of
from danube_common.wire.archive import READ_BYTES_DEFAULT
from danube_topic_owner.catchup.expiry import gone_after, next_gone
from danube_topic_owner.catchup.history import History, HistoryBatch
from danube_topic_owner.catchup.log_catchup import find_behind
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.subscription import LogSubscription, ReadBlock

TOPICS_AT_ONCE_MAX = 8
"""Topics of a bundle that are read at the same time."""
TOPICS_REMEMBERED_MAX = 10_000
"""Topics whose next start is remembered; when there are more, all starts are dropped and found again."""
RETRY_WAIT_S = 0.2
RETRY_WAIT_MAX_S = 5.0
QUARANTINE_WAIT_S = 30.0
"""How often a damaged segment is tried again: a sound copy may have come back."""

_log = structlog.get_logger(__name__)


class HistoryFeed:
    """Runs one archive read at a time per topic, and offers it to all subscriptions that it meets.

    Args:
        context: of the bundle.
        manifest: of the bundle.
        history: what is read.
        on_gone: called with a topic id when what a subscription needs next is no longer retained.
    """

    def __init__(
        self, context: OwnerContext, manifest: Manifest, history: History, *, on_gone: Callable[[int], None]
    ) -> None:
        self._context = context
        self._manifest = manifest
        self._history = history
        self._on_gone = on_gone
        self._waiting_gauge = context.metrics.waiting_for_archive.labels(str(context.bundle))
        self._wake = asyncio.Event()
        self._reading: set[int] = set()
        """Ids of the topics that are being read."""
        self._last_topic = 0
        self._last_starts: dict[int, int] = {}
        self._exact_starts: dict[int, tuple[int, int]] = {}
        """By topic id (sequence, position): at the sequence, nothing is left to read before the position."""

    def wake(self) -> None:
        """Serve the subscriptions below the floor: one of them may have room now."""
        self._wake.set()

    def retry(self) -> None:
        """Try blocked subscriptions at once: what blocked them may be over."""
        for subscription in self._context.log_subscriptions():
            if subscription.read_block is not None:
                subscription.read_block.until_s = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            async with asyncio.TaskGroup() as reads:
                while True:
                    self._wake.clear()
                    wait_s = self._start_due(reads)
                    blocks = [each.read_block for each in self._context.log_subscriptions()]
                    self._waiting_gauge.set(sum(bool(block and block.reason) for block in blocks))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._wake.wait()
        finally:
            self._waiting_gauge.set(0)

    def _start_due(self, reads: asyncio.TaskGroup) -> float | None:
        """Start the reads that are due; seconds until the next one is, None if none waits."""
        now = asyncio.get_running_loop().time()
        due: dict[int, list[LogSubscription]] = {}
        waits: list[float] = []
        for each in find_behind(self._context):
            block = each.read_block
            if each.next_sequence >= self._context.extent.floor:
                continue
            if block is not None and block.sequence == each.next_sequence and block.until_s > now:
                waits.append(block.until_s - now)
            elif each.topic_id not in self._reading:
                due.setdefault(each.topic_id, []).append(each)
        later = sorted(topic_id for topic_id in due if topic_id > self._last_topic)
        for topic_id in later + sorted(due.keys() - set(later)):
            if len(self._reading) >= TOPICS_AT_ONCE_MAX:
                break
            self._last_topic = topic_id
            self._reading.add(topic_id)
            name = f"{self._manifest.bundle} history {topic_id:x}"
            reads.create_task(self._read(topic_id, due[topic_id]), name=name)
        return min(waits, default=None)

    async def _read(self, topic_id: int, behind: Sequence[LogSubscription]) -> None:
        """Read once, from where some of the subscriptions are; their starts take turns from low to high."""
        starts = sorted({each.next_sequence for each in behind})
        start = next((s for s in starts if s > self._last_starts.get(topic_id, 0)), starts[0])
        if len(self._last_starts) > TOPICS_REMEMBERED_MAX:
            self._last_starts.clear()
            self._exact_starts.clear()
        self._last_starts[topic_id] = start
        here = [each for each in behind if each.next_sequence == start]
        try:
            topic = self._context.catalogue.topic_by_id(topic_id)
            if topic is None:
                raise NotFound("the topic is not known")
            with self._context.traces.reading(topic.name):
                await self._read_from(topic, start, here)
        except Quarantined as error:
            self._block(here, start, str(error), QUARANTINE_WAIT_S)
        except CorruptData as error:
            self._block(here, start, f"the archive is damaged: {error}", QUARANTINE_WAIT_S)
        except DanubeError as error:
            self._block(here, start, str(error))
        finally:
            self._reading.discard(topic_id)
            self._wake.set()

    async def _read_from(self, topic: Topic, start: int, here: Sequence[LogSubscription]) -> None:
        """Raises Quarantined, CorruptData, Unavailable."""
        floor = self._context.extent.floor
        if self._manifest.archived_through + 1 < floor:
            await self._manifest.refresh()
        after = min((each.unread_after or 0 for each in here), default=0)
        if gone_after(self._manifest, topic, after, floor) is not None:
            self._on_gone(topic.topic_id)
            self._block(here, start, "")
            return
        known_sequence, exact = self._exact_starts.get(topic.topic_id, (0, 0))
        from_position = exact if known_sequence == start else position_of(start, 0, 0)
        batch = await self._history.read(topic, from_position, bytes_max=READ_BYTES_DEFAULT)
        self._offer(topic, start, after, batch)
        stuck = [each for each in here if each.next_sequence == start and each.wants_backlog]
        again = any(each.read_block is not None for each in stuck)
        self._block(stuck, start, "the archive has no message to go on with" if again else "")

    def _offer(self, topic: Topic, start: int, after: int, batch: HistoryBatch) -> None:
        tail = self._context.extent.tail
        entries = [entry for entry in batch.entries if entry.sequence <= tail]
        last = entries[-1].sequence if entries else 0
        go_on = min(max(sequence_of(batch.next_position), last + 1), tail + 1)
        # Messages may have expired meanwhile: readers stop there, so that the expirer counts what they lost.
        hole = next_gone(self._manifest, topic, after, batch.next_position)
        if hole is not None:
            entries = [entry for entry in entries if entry.first_position < hole.first_position]
            go_on = min(go_on, max(start, sequence_of(hole.first_position)))
        elif go_on == last + 1 and len(entries) == len(batch.entries):
            self._exact_starts[topic.topic_id] = (go_on, batch.next_position)
        lagging = [each for each in self._context.dispatcher.lagging() if each.topic_id == topic.topic_id]
        for entry in entries:
            met = _meeting(lagging, start, entry.sequence)
            if not met:
                continue
            run = entry.section.run(entry.first_position, entry.first_offset)
            self._context.traces.note_archived(run)
            for subscription in met:
                subscription.dispatch.offer(run)
                subscription.read_past(entry.sequence)
                self._context.dispatcher.mark_ready(subscription)
        last = entries[-1].sequence if entries else 0
        for subscription in _meeting(lagging, max(start, last + 1), go_on - 1):
            subscription.next_sequence = go_on
        for subscription in lagging:
            block = subscription.read_block
            if block is not None and block.sequence != subscription.next_sequence:
                subscription.read_block = None
        if any(each.next_sequence >= self._context.extent.floor for each in find_behind(self._context)):
            self._context.catch_up_wanted.set()

    def _block(
        self, subscriptions: Sequence[LogSubscription], start: int, reason: str, wait_s: float = 0.0
    ) -> None:
        """Keep the subscriptions that are still at ``start`` from being read for, longer each time."""
        now = asyncio.get_running_loop().time()
        for subscription in subscriptions:
            if subscription.next_sequence != start:
                continue
            before = subscription.read_block
            if before is not None and before.sequence != start:
                before = None
            wait = wait_s or (min(before.wait_s * 2, RETRY_WAIT_MAX_S) if before else RETRY_WAIT_S)
            subscription.read_block = ReadBlock(start, reason, now + wait, wait)
            if reason and not (before and before.reason == reason):
                _log.warning(
                    "subscription_waits_for_the_archive",
                    bundle=str(self._manifest.bundle),
                    topic_id=subscription.topic_id,
                    subscription=subscription.state.name,
                    sequence=start,
                    reason=reason,
                )


def _meeting(subscriptions: Iterable[LogSubscription], start: int, sequence: int) -> list[LogSubscription]:
    """The subscriptions with room that are at one of the sequences ``start .. sequence``."""
    return [each for each in subscriptions if each.wants_backlog and start <= each.next_sequence <= sequence]
