"""Writes a bundle's events to its journal: group commit, cursor batches, snapshots, fencing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Protocol

import structlog

from danube_common.errors import JournalFenced, LogUnavailable
from danube_common.journal.port import StateJournal
from danube_common.model.bundle import Bundle
from danube_topic_owner.journal.claim import JournalClaim
from danube_topic_owner.journal.events import CursorMoved, Event, encode_events

CURSOR_INTERVAL_S = 0.1
"""Acknowledgements are journaled at most this late. A crash loses at most these acknowledgements."""
SNAPSHOT_RECORDS = 2_000
"""Records between two snapshots."""
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

    def moved(self) -> CursorMoved:
        """Return the cursor as it is now."""


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
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._fenced = False
        self._ended = False
        self._records_since_snapshot = SNAPSHOT_RECORDS
        """High enough that a new owner writes a snapshot at once, which shortens the next start."""

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

    def _moved_cursors(self) -> list[Event]:
        dirty, self._dirty = self._dirty, {}
        events: list[Event] = [subscription.moved() for subscription in dirty.values()]
        return events + self._beside_cursors() if events else events

    async def flushed(self) -> None:
        """Return once everything recorded so far is durable. Raises JournalFenced, also after the end."""
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
                await self._write_batch()
                if self._records_since_snapshot >= SNAPSHOT_RECORDS and not self._fenced:
                    await self._write_snapshot()
                if self._closing and not self._pending:
                    return
        finally:
            self._ended = True
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(JournalFenced(f"bundle {self._bundle} has another owner"))

    def stop(self) -> None:
        """Write what is queued, with the cursors, then let `run` return."""
        self._closing = True
        self._wake.set()

    async def _write_batch(self) -> None:
        self._wake.clear()
        cursors = self._moved_cursors()
        for event in cursors:
            self._state.apply(event)
        events = [*self._pending, *cursors]
        waiters, self._waiters, self._pending = self._waiters, [], []
        if (events or self._heartbeat_due()) and not await self._append(events):
            self._waiters.extend(waiters)
            return
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _heartbeat_due(self) -> bool:
        return self._in_doubt() and self._clock() >= self.confirmed_at + HEARTBEAT_S

    async def _write_snapshot(self) -> None:
        self._before_snapshot()
        self._state.fold(self._moved_cursors())
        if await self._append([self._state.snapshot()]):
            self._records_since_snapshot = 0
            try:
                await self._journal.discard(self._bundle, self._sequence)
            except LogUnavailable as error:
                _log.warning("journal_discard_failed", bundle=str(self._bundle), error=str(error))

    async def _append(self, events: list[Event]) -> bool:
        """Append one record, again and again while the journal does not answer; False when fenced.

        A record without events changes nothing and is a heartbeat.
        """
        data = encode_events(events)
        wait_s = RETRY_WAIT_S
        while True:
            sent_at = self._clock()
            try:
                self._sequence = await self._journal.append(
                    self._bundle, data, expected_sequence=self._sequence
                )
            except JournalFenced:
                self._fenced = True
                self._on_fenced()
                return False
            except LogUnavailable as error:
                _log.warning("journal_append_retried", bundle=str(self._bundle), error=str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_WAIT_MAX_S)
            else:
                self._records_since_snapshot += 1
                self.confirmed_at = sent_at
                self._on_confirmed()
                return True
