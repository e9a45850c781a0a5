"""Writes a bundle's events to its journal: group commit, cursor batches, snapshots, fencing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Protocol

import structlog

from danube_common.errors import JournalFenced, LogFull, LogUnavailable
from danube_common.journal.port import StateJournal
from danube_common.model.bundle import Bundle
from danube_topic_owner.journal.claim import JournalClaim
from danube_topic_owner.journal.events import Event, encode_records

CURSOR_INTERVAL_S = 0.1
"""Acknowledgements are journaled at most this late. A crash loses at most these acknowledgements."""
SNAPSHOT_BYTES = 512 * 1024
"""Bytes of records between two snapshots; as many as the last snapshot had, if that is more.

A bundle's part of the journal is therefore never much larger than three of its snapshots."""
RECORD_OVERHEAD_BYTES = 200
"""What a record takes in the journal beside its data."""
HEARTBEAT_S = 1.0
"""While the registration is in doubt, a record is written at least this often: the journal's answer tells
whether this owner still has the bundle (docs/adr/0006-a-metadata-outage-is-not-a-lost-lease.md)."""
RETRY_WAIT_S = 0.1
RETRY_WAIT_MAX_S = 2.0

_log = structlog.get_logger(__name__)


class MovingCursor(Protocol):
    """A subscription whose cursor is journaled."""

    @property
    def key(self) -> Hashable:
        """Identifies the subscription within the bundle."""

    def moved(self) -> list[Event]:
        """Return how the cursor moved since the last call."""

    def stored(self) -> None:
        """Note that what `moved` returned is durable."""


class JournalWriter:
    """The only writer of its bundle's journal, until another owner writes.

    Events are applied to the state when they are recorded and durable when `flushed` returns.

    Args:
        journal: the journal of all bundles.
        bundle: the bundle whose events are written.
        claim: the journal as it was taken over; events are applied to its state.
        on_fenced: called when another owner has written.
        beside_cursors: returns events to write together with moved cursors.
        before_snapshot: called before the whole state is written.
        in_doubt: whether only the journal can tell that this owner still has the bundle.
        on_confirmed: called after each record that was stored.
        clock: monotonic seconds.

    Attributes:
        confirmed_at: when the last stored record was sent (no other owner had written until then).
    """

    def __init__(
        self,
        journal: StateJournal,
        bundle: Bundle,
        claim: JournalClaim,
        *,
        on_fenced: Callable[[], None],
        beside_cursors: Callable[[], list[Event]] = list,
        before_snapshot: Callable[[], None] = lambda: None,
        in_doubt: Callable[[], bool] = lambda: False,
        on_confirmed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.confirmed_at = claim.confirmed_at
        self._journal = journal
        self._bundle = bundle
        self._state = claim.state
        self._sequence = claim.sequence
        self._on_fenced = on_fenced
        self._beside_cursors = beside_cursors
        self._before_snapshot = before_snapshot
        self._in_doubt = in_doubt
        self._on_confirmed = on_confirmed
        self._clock = clock
        self._pending: list[Event] = []
        self._dirty: dict[Hashable, MovingCursor] = {}
        self._storing: dict[Hashable, MovingCursor] = {}
        """Subscriptions with moves that are not durable yet."""
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: list[asyncio.Future[None]] = []
        """Those who wait for the record that is being written."""
        self._wake = asyncio.Event()
        self._closing = False
        self._fenced = False
        self._ended = False
        self._snapshot_bytes = 0
        self._bytes_since_snapshot = SNAPSHOT_BYTES
        """High enough that a new owner writes a snapshot at once, which shortens the next start."""
        self._full_wait_s = 0.0
        """The wait before a journal that is full is tried again; 0 if it is not full."""

    def record(self, *events: Event) -> None:
        """Apply events and queue them."""
        for event in events:
            self._state.apply(event)
        self._pending.extend(events)
        self._wake.set()

    def mark_dirty(self, subscription: MovingCursor) -> None:
        """Write the subscription's cursor with the next batch, at most CURSOR_INTERVAL_S later."""
        self._dirty[subscription.key] = subscription

    def forget(self, key: Hashable) -> None:
        """Do not write the cursor of a subscription that was deleted or reset."""
        self._dirty.pop(key, None)
        self._storing.pop(key, None)

    def _moved_cursors(self) -> list[Event]:
        dirty, self._dirty = self._dirty, {}
        self._storing.update(dirty)
        events = [event for subscription in dirty.values() for event in subscription.moved()]
        return events + self._beside_cursors() if events else events

    async def flushed(self) -> None:
        """Return once everything recorded so far is durable.

        Raises:
            JournalFenced: another owner has written, or the writer has ended.
            LogFull: the journal is full. What was recorded becomes durable when there is room again.
        """
        if self._fenced or self._ended:
            raise JournalFenced(f"bundle {self._bundle} has another owner")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        await waiter

    async def run(self) -> None:
        """Write until `stop` is called or another owner has written."""
        try:
            while not self._fenced:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CURSOR_INTERVAL_S):
                        await self._wake.wait()
                if not self._full_wait_s:
                    await self._write_batch()
                if (self._full_wait_s or self._snapshot_due) and not self._fenced:
                    await self._write_snapshot()
                if self._closing and not self._pending:
                    return
        finally:
            self._ended = True
            _settle(self._writing + self._waiters, JournalFenced(f"bundle {self._bundle} has another owner"))

    def stop(self) -> None:
        """Write what is queued, with the cursors, then let `run` return."""
        self._closing = True
        self._wake.set()

    async def _wait_for_room(self, error: LogFull, waiters: list[asyncio.Future[None]]) -> None:
        """Have a snapshot written next, which makes room; wait if that was tried just now."""
        if not self._full_wait_s:
            self._full_wait_s = RETRY_WAIT_S
            self._waiters = waiters + self._waiters
            return
        _log.error("journal_full", bundle=str(self._bundle), error=str(error))
        _settle(waiters, error)
        await asyncio.sleep(self._full_wait_s)
        self._full_wait_s = min(self._full_wait_s * 2, RETRY_WAIT_MAX_S)

    @property
    def _snapshot_due(self) -> bool:
        return self._bytes_since_snapshot >= max(SNAPSHOT_BYTES, self._snapshot_bytes)

    async def _write_batch(self) -> None:
        self._wake.clear()
        cursors = self._moved_cursors()
        self._state.fold(cursors)
        events = [*self._pending, *cursors]
        waiters, self._waiters, self._pending = self._waiters, [], []
        if (not events and not self._heartbeat_due()) or await self._append(encode_records(events), waiters):
            _settle(waiters)

    def _heartbeat_due(self) -> bool:
        return self._in_doubt() and self._clock() >= self.confirmed_at + HEARTBEAT_S

    async def _write_snapshot(self) -> None:
        """Write the whole state, which contains every event that waits, and discard what is before it."""
        self._wake.clear()
        self._before_snapshot()
        self._state.fold(self._moved_cursors())
        waiters, self._waiters, self._pending = self._waiters, [], []
        records = encode_records(list(self._state.snapshot()))
        first_sequence = self._sequence + 1
        if not await self._append(records, waiters, reserve=True):
            return
        self._full_wait_s = 0.0
        self._snapshot_bytes = _stored_bytes(records)
        self._bytes_since_snapshot = 0
        _settle(waiters)
        try:
            await self._journal.discard(self._bundle, first_sequence)
        except LogUnavailable as error:
            _log.warning("journal_discard_failed", bundle=str(self._bundle), error=str(error))

    async def _append(
        self, records: list[bytes], waiters: list[asyncio.Future[None]], *, reserve: bool = False
    ) -> bool:
        """Append records and return whether all are stored; if not, the waiters get an error.

        A record is appended again and again while the journal does not answer. When the journal is full, the
        next write is a snapshot. A record without events changes nothing and is a heartbeat.
        """
        self._writing = waiters
        wait_s = RETRY_WAIT_S
        for data in records:
            stored = False
            while not stored:
                sent_at = self._clock()
                try:
                    self._sequence = await self._journal.append(
                        self._bundle, data, expected_sequence=self._sequence, reserve=reserve
                    )
                    stored = True
                except JournalFenced as error:
                    self._fenced = True
                    self._on_fenced()
                    _settle(waiters, error)
                    return False
                except LogFull as error:
                    await self._wait_for_room(error, waiters)
                    return False
                except LogUnavailable as error:
                    _log.warning("journal_append_retried", bundle=str(self._bundle), error=str(error))
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, RETRY_WAIT_MAX_S)
            self._bytes_since_snapshot += _stored_bytes([data])
            self.confirmed_at = sent_at
            self._on_confirmed()
        storing, self._storing = self._storing, {}
        for subscription in storing.values():
            subscription.stored()
        return True


def _stored_bytes(records: list[bytes]) -> int:
    return sum(len(data) + RECORD_OVERHEAD_BYTES for data in records)


def _settle(waiters: list[asyncio.Future[None]], error: Exception | None = None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
