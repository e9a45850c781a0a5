"""A key that its holder renews, and stops counting as held in time when renewing fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.port import MetadataStore

RENEWALS_PER_TTL: Final = 3
RETRIES_PER_TTL: Final = 12
ATTEMPTS_PER_TTL: Final = 4
"""A renewal without an answer after this part of the ttl is given up, so that there is time for another."""
SAFETY_MARGIN_RATIO: Final = 0.1
"""Part of the ttl that is given away: between the holder's clock, its last action and the store's clock."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class LeaseClock:
    """Computes when to renew and when the key no longer counts as held. Pure.

    A confirmed write counts from the moment it was *sent*: the store applied it later, so the store
    never lets the key go before we do.

    Args:
        ttl_s: the key's ttl.
        sent_at: when the write that took the key was sent, on a monotonic clock in seconds.
        revision: what that write answered.
    """

    def __init__(self, ttl_s: float, sent_at: float, revision: int) -> None:
        self.ttl_s = ttl_s
        self.revision = revision
        self.ended = False
        self._unconfirmed_at: float | None = None
        self._set(sent_at)

    @property
    def ends_at(self) -> float:
        """When the key stops counting as held."""
        return self._ends_at

    @property
    def renew_at(self) -> float:
        """When to send the next renewal."""
        return self._renew_at

    @property
    def unconfirmed(self) -> bool:
        """Whether the result of a renewal is unknown: it may have changed the key's revision."""
        return self._unconfirmed_at is not None

    def patience_s(self, now: float) -> float:
        """Return how long a renewal sent now may take; 0 if the key is not held any more."""
        return max(0.0, min(self.ttl_s / ATTEMPTS_PER_TTL, self._ends_at - now))

    def held(self, now: float) -> bool:
        """Return whether the key counts as held at ``now``."""
        return not self.ended and now < self._ends_at

    def confirmed(self, sent_at: float, revision: int) -> None:
        """The renewal sent at ``sent_at`` is stored at ``revision``."""
        self.revision = revision
        self._unconfirmed_at = None
        self._set(sent_at)

    def failed(self, sent_at: float, now: float) -> None:
        """The renewal sent at ``sent_at`` got no answer; it may or may not be stored."""
        if self._unconfirmed_at is None:
            self._unconfirmed_at = sent_at
        self._renew_at = now + self.ttl_s / RETRIES_PER_TTL

    def found_own(self, revision: int) -> None:
        """The store holds our value at a newer revision: a renewal without an answer was stored.

        It may be one from before this tenure, given up and delivered late. Then only the revision is known,
        and the renewal that is due tells the rest.
        """
        if self._unconfirmed_at is None:
            self.revision = revision
        else:
            self.confirmed(self._unconfirmed_at, revision)

    def _set(self, sent_at: float) -> None:
        self._renew_at = sent_at + self.ttl_s / RENEWALS_PER_TTL
        self._ends_at = sent_at + self.ttl_s * (1 - SAFETY_MARGIN_RATIO)


class Lease:
    """A leased key, renewed after each third of its lifetime, each time only if nobody else wrote it.

    Attributes:
        key: what is held.
        lost: set once the key does not count as held any more: another writer replaced or deleted it, or
            no renewal was confirmed within the ttl less a margin. Never unset. Not set by `release`.
        taken: with ``lost``, whether the store said so; otherwise it only did not answer in time.
    """

    def __init__(
        self, store: MetadataStore, key: str, value: bytes, tenure: LeaseClock, clock: Callable[[], float]
    ) -> None:
        self.key = key
        self.lost = asyncio.Event()
        self.taken = False
        self._store = store
        self._value = value
        self._tenure = tenure
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def acquire(
        cls,
        store: MetadataStore,
        key: str,
        value: bytes,
        ttl_s: float,
        *,
        expected_revision: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Write the key and keep it.

        Args:
            store: where.
            key: which.
            value: must tell this holder from every other: it is how a renewal whose answer was lost is
                recognised as our own.
            ttl_s: how long the key outlives its holder; whole seconds.
            expected_revision: as in `MetadataStore.put`; None takes the key from whoever has it.
            clock: monotonic seconds.

        Raises:
            Conflict: the condition did not hold.
            MetadataUnavailable: no answer; the key may be taken until its ttl ends.
        """
        sent_at = clock()
        revision = await store.put(key, value, expected_revision=expected_revision, ttl_s=ttl_s)
        lease = cls(store, key, value, LeaseClock(ttl_s, sent_at, revision), clock)
        lease._task = asyncio.create_task(lease._keep(), name=f"lease {key}")
        return lease

    @property
    def revision(self) -> int:
        """The revision of the last confirmed write; it moves with every renewal."""
        return self._tenure.revision

    @property
    def held(self) -> bool:
        """Whether the key is held at this moment; right also after the process was paused."""
        return not self.lost.is_set() and self._tenure.held(self._clock())

    async def release(self) -> None:
        """Stop renewing, and delete the key if it is still ours.

        Idempotent; if it fails, the lifetime ends it.
        """
        if self._tenure.ended:
            return
        self._tenure.ended = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._delete_own()
        except (Conflict, MetadataUnavailable) as error:
            log.info("lease_left_to_its_ttl", key=self.key, reason=str(error))

    async def _delete_own(self) -> None:
        # The renewal that was cancelled may be stored: what counts is whether the value is ours.
        entry = await self._store.get(self.key)
        if entry is not None and entry.value == self._value:
            await self._store.delete(self.key, expected_revision=entry.revision)

    async def _keep(self) -> None:
        tenure = self._tenure
        reason = "the ttl passed without a confirmed renewal"
        try:
            while tenure.held(now := self._clock()):
                pause_s = min(tenure.renew_at, tenure.ends_at) - now
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                elif not await self._renew():
                    reason = "another writer has the key"
                    self.taken = True
                    break
        except Exception as error:
            reason = f"renewing failed: {error!r}"
            log.exception("lease_failed", key=self.key)
        if tenure.ended:
            return  # released
        tenure.ended = True
        self.lost.set()
        log.warning("lease_lost", key=self.key, reason=reason)

    async def _renew(self) -> bool:
        """One attempt. False when the key is another's."""
        tenure = self._tenure
        sent_at = self._clock()
        try:
            async with asyncio.timeout(tenure.patience_s(sent_at)):
                try:
                    revision = await self._store.put(
                        self.key, self._value, expected_revision=tenure.revision, ttl_s=tenure.ttl_s
                    )
                except Conflict:
                    return await self._recognise_own()
        except (MetadataUnavailable, TimeoutError) as error:
            tenure.failed(sent_at, self._clock())
            log.info("lease_not_renewed", key=self.key, reason=str(error) or type(error).__name__)
        else:
            tenure.confirmed(sent_at, revision)
        return True

    async def _recognise_own(self) -> bool:
        entry = await self._store.get(self.key)
        if entry is None or entry.value != self._value or entry.revision <= self._tenure.revision:
            return False
        self._tenure.found_own(entry.revision)
        return True
