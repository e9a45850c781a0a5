"""Feeds the subscriptions that are below the log's floor from the archive, each topic by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, DanubeError, Quarantined
from danube_common.model.position import position_of, sequence_of
from danube_common.wire.archive import READ_BYTES_DEFAULT
from danube_common.wire.frame import Section
from danube_topic_owner.catchup.expiry import gone_after, next_gone
from danube_topic_owner.catchup.history import HistoryBatch
from danube_topic_owner.catchup.log_catchup import Reader, release_at_tail
from danube_topic_owner.delivery.subscription import ReadBlock
from danube_topic_owner.log_reader import LogExtent

TOPICS_AT_ONCE_MAX = 8
"""Topics of a bundle that are read at the same time."""
TOPICS_REMEMBERED_MAX = 10_000
"""Topics of which it is remembered where reading goes on best; beyond, all is forgotten and found again."""
RETRY_WAIT_S = 0.2
RETRY_WAIT_MAX_S = 5.0
QUARANTINE_WAIT_S = 30.0
"""A damaged segment is tried again this often: a sound copy may have come back."""

_log = structlog.get_logger(__name__)


class Archive(Protocol):
    """What is read: `danube_topic_owner.catchup.history.History`."""

    async def read(self, topic: Topic, from_position: int, *, bytes_max: int) -> HistoryBatch: ...


class ArchiveReader(Reader, Protocol):
    """A reader of one topic."""

    topic_id: int
    read_block: ReadBlock | None

    @property
    def key(self) -> tuple[int, str]: ...

    @property
    def unread_after(self) -> int | None:
        """Everything the topic has beyond this position is still to be read."""

    def offer_section(self, sequence: int, number: int, section: Section) -> None:
        """Take the topic's next messages."""


R = TypeVar("R", bound=ArchiveReader)


class HistoryFeed(Generic[R]):
    """One read at a time per topic, offered to all its readers that it meets.

    Args:
        archive: what is read.
        cuts: its catalogue.
        topic: the topic of an id, or None if it is no more.
        readers: those that are behind and have a consumer.
        subscriptions: all of the bundle.
        extent: the log's floor and tail.
        served: called with each reader that was given something: it can be dispatched.
        on_gone: called with a topic id when what a reader would read next is retained no longer.
        on_log: called when a reader has reached what is in the log.
        report: told how many readers do not go on.
    """

    def __init__(
        self,
        archive: Archive,
        cuts: Manifest,
        topic: Callable[[int], Topic | None],
        readers: Callable[[], Iterable[R]],
        *,
        subscriptions: Callable[[], Iterable[R]],
        extent: LogExtent,
        served: Callable[[R], None],
        on_gone: Callable[[int], None],
        on_log: Callable[[], None],
        report: Callable[[int], None],
    ) -> None:
        self._archive = archive
        self._cuts = cuts
        self._topic = topic
        self._readers = readers
        self._subscriptions = subscriptions
        self._extent = extent
        self._served = served
        self._on_gone = on_gone
        self._on_log = on_log
        self._report = report
        self._wake = asyncio.Event()
        self._reading: dict[int, asyncio.Task[None]] = {}
        self._last_topic = 0
        self._last_starts: dict[int, int] = {}
        self._exact_places: dict[int, tuple[int, int]] = {}
        """By topic id (sequence, position): at the sequence, nothing is left to read before the position."""

    def wake(self) -> None:
        """Some reader may want its past now."""
        self._wake.set()

    def retry(self) -> None:
        """What stood in the way may be gone: try at once."""
        for reader in self._subscriptions():
            if reader.read_block is not None:
                reader.read_block.until_s = 0.0
        self._wake.set()

    @property
    def obstructed(self) -> int:
        """How many readers do not go on."""
        return sum(bool(each.read_block and each.read_block.reason) for each in self._subscriptions())

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                self._wake.clear()
                wait_s = self._start_due()
                self._report(self.obstructed)
                woken = asyncio.ensure_future(self._wake.wait())
                try:
                    await asyncio.wait(
                        {woken, *self._reading.values()},
                        timeout=wait_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    woken.cancel()
                for topic_id in [t for t, task in self._reading.items() if task.done()]:
                    self._reading.pop(topic_id).result()
        finally:
            self._report(0)
            tasks = list(self._reading.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_due(self) -> float | None:
        """Begin to read for those that can; seconds until the next one is due, None if none waits."""
        now = asyncio.get_running_loop().time()
        due: dict[int, list[R]] = {}
        waits: list[float] = []
        for reader in self._below():
            block = reader.read_block
            if block is not None and block.sequence == reader.next_sequence and block.until_s > now:
                waits.append(block.until_s - now)
            elif reader.topic_id not in self._reading:
                due.setdefault(reader.topic_id, []).append(reader)
        later = sorted(topic_id for topic_id in due if topic_id > self._last_topic)
        for topic_id in later + sorted(due.keys() - set(later)):
            if len(self._reading) >= TOPICS_AT_ONCE_MAX:
                break
            self._last_topic = topic_id
            self._reading[topic_id] = asyncio.create_task(
                self._read(topic_id, due[topic_id]), name=f"{self._cuts.bundle} history {topic_id:x}"
            )
        return min(waits, default=None)

    def _below(self) -> list[R]:
        behind = [reader for reader in self._readers() if reader.wants_backlog]
        release_at_tail(behind, self._extent.tail)
        end = min(self._extent.floor, self._extent.tail + 1)
        return [reader for reader in behind if reader.next_sequence < end]

    async def _read(self, topic_id: int, readers: Sequence[R]) -> None:
        """One read, from the place of one of the readers; they take turns from low to high."""
        starts = sorted({reader.next_sequence for reader in readers})
        start = next((s for s in starts if s > self._last_starts.get(topic_id, 0)), starts[0])
        if len(self._last_starts) > TOPICS_REMEMBERED_MAX:
            self._last_starts.clear()
            self._exact_places.clear()
        self._last_starts[topic_id] = start
        here = [reader for reader in readers if reader.next_sequence == start]
        topic = self._topic(topic_id)
        if topic is None:
            self._obstruct(here, start, "the topic is not known")
            return
        try:
            await self._read_from(topic, start, here)
        except Quarantined as error:
            self._obstruct(here, start, str(error), QUARANTINE_WAIT_S)
        except CorruptData as error:
            self._obstruct(here, start, f"the archive is damaged: {error}", QUARANTINE_WAIT_S)
        except DanubeError as error:
            self._obstruct(here, start, str(error))

    async def _read_from(self, topic: Topic, start: int, here: Sequence[R]) -> None:
        """Raises Quarantined, CorruptData, Unavailable."""
        floor = self._extent.floor
        if self._cuts.archived_through + 1 < floor:
            await self._cuts.refresh()
        after = min((reader.unread_after or 0 for reader in here), default=0)
        if gone_after(self._cuts, topic, after, floor) is not None:
            self._on_gone(topic.topic_id)
            self._obstruct(here, start, "")
            return
        known_sequence, exact = self._exact_places.get(topic.topic_id, (0, 0))
        from_position = exact if known_sequence == start else position_of(start, 0, 0)
        batch = await self._archive.read(topic, from_position, bytes_max=READ_BYTES_DEFAULT)
        self._offer(topic, start, after, batch)
        stuck = [reader for reader in here if reader.next_sequence == start and reader.wants_backlog]
        again = any(reader.read_block is not None for reader in stuck)
        self._obstruct(stuck, start, "the archive has nothing at this place" if again else "")

    def _offer(self, topic: Topic, start: int, after: int, batch: HistoryBatch) -> None:
        tail = self._extent.tail
        entries = [entry for entry in batch.entries if entry.sequence <= tail]
        last = entries[-1].sequence if entries else 0
        go_on = min(max(sequence_of(batch.next_position), last + 1), tail + 1)
        # What was taken out of the catalogue meanwhile, or lies between what is retained: it must be counted.
        hole = next_gone(self._cuts, topic, after, batch.next_position)
        if hole is not None:
            entries = [entry for entry in entries if entry.first_position < hole.first_position]
            go_on = min(go_on, max(start, sequence_of(hole.first_position)))
        elif go_on == last + 1 and len(entries) == len(batch.entries):
            self._exact_places[topic.topic_id] = (go_on, batch.next_position)
        mine = [reader for reader in self._readers() if reader.topic_id == topic.topic_id]
        for entry in entries:
            takers = _meeting(mine, start, entry.sequence)
            if takers:
                section = entry.section
                for reader in takers:
                    reader.offer_section(entry.sequence, entry.number, section)
                    reader.next_sequence = entry.sequence + 1
                    self._served(reader)
        last = entries[-1].sequence if entries else 0
        for reader in _meeting(mine, max(start, last + 1), go_on - 1):
            reader.next_sequence = go_on
        self._settle(mine)

    def _settle(self, mine: Sequence[R]) -> None:
        release_at_tail([reader for reader in mine if reader.wants_backlog], self._extent.tail)
        for reader in mine:
            if reader.read_block is not None and reader.read_block.sequence != reader.next_sequence:
                reader.read_block = None
        if any(reader.wants_backlog and reader.next_sequence >= self._extent.floor for reader in mine):
            self._on_log()

    def _obstruct(self, readers: Sequence[R], start: int, reason: str, wait_s: float = 0.0) -> None:
        now = asyncio.get_running_loop().time()
        for reader in readers:
            if reader.next_sequence != start:
                continue
            before = reader.read_block
            same = before is not None and before.sequence == start
            wait = wait_s or (min(before.wait_s * 2, RETRY_WAIT_MAX_S) if before and same else RETRY_WAIT_S)
            reader.read_block = ReadBlock(start, reason, now + wait, wait)
            if reason and not (before and same and before.reason == reason):
                _log.warning(
                    "subscription_waits_for_the_archive",
                    bundle=str(self._cuts.bundle),
                    topic_id=reader.topic_id,
                    subscription=reader.key[1],
                    sequence=start,
                    reason=reason,
                )


def _meeting(readers: Iterable[R], start: int, sequence: int) -> list[R]:
    """Those with room that are at one of the sequences ``start .. sequence``."""
    return [each for each in readers if each.wants_backlog and start <= each.next_sequence <= sequence]
