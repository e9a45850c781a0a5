"""A local copy of one prefix of the metadata store, kept up to date."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Self

import structlog

from danube_common.errors import MetadataUnavailable
from danube_common.metadata.key import require_prefix
from danube_common.metadata.port import Change, Entry, Listing, MetadataStore, WatchLost

RESYNC_PAUSE_S_MIN: Final = 0.05
RESYNC_PAUSE_S_MAX: Final = 2.0
CATCH_UP_PATIENCE_S: Final = 0.25
"""How long `Mirror.catch_up` trusts the watch before it asks the store itself."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Mirror:
    """Entries under one prefix, read without waiting. It may be behind the store, never ahead.

    While the store is away the last copy stays readable. When the watch is lost the prefix is listed
    again and only what really differs is reported.
    """

    def __init__(
        self, store: MetadataStore, prefix: str, on_change: Callable[[Change], None] | None = None
    ) -> None:
        self._store = store
        self._prefix = require_prefix(prefix)
        self._on_change = on_change
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._moved = asyncio.Event()
        self._listing = asyncio.Lock()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, store: MetadataStore, prefix: str, on_change: Callable[[Change], None] | None = None
    ) -> Self:
        """Return once everything stored so far was read.

        Args:
            store: the store to copy from.
            prefix: the keys to copy; ends in ``/``.
            on_change: called for each initial entry and each change after, in order; must not block.
                What it raises is logged and does not stop the mirror.

        Raises:
            MetadataUnavailable: the first listing failed.
        """
        mirror = cls(store, prefix, on_change)
        mirror._merge(await store.list(prefix), replace=True)
        mirror._task = asyncio.create_task(mirror._follow(), name=f"mirror {prefix}")
        return mirror

    @property
    def revision(self) -> int:
        """Every change under the prefix up to this revision is in the copy."""
        return self._revision

    @property
    def closed(self) -> bool:
        """Whether the copy has stopped following for good, after `close` here or on the store."""
        return self._closed

    def get(self, key: str) -> Entry | None:
        """Return an entry, or None."""
        return self._entries.get(key)

    def entries(self, prefix: str | None = None) -> list[Entry]:
        """Return the entries sorted by key; with ``prefix`` only those below it."""
        found = self._entries if prefix is None else [key for key in self._entries if key.startswith(prefix)]
        return [self._entries[key] for key in sorted(found)]

    async def wait_for(self, predicate: Callable[[Mirror], bool], timeout_s: float) -> None:
        """Wait until ``predicate(mirror)`` holds; it is tested at once and after each change.

        Raises:
            TimeoutError: it did not hold within ``timeout_s``.
            MetadataUnavailable: the mirror was closed meanwhile.
        """
        async with asyncio.timeout(timeout_s):
            while not predicate(self):
                if self._closed:
                    raise MetadataUnavailable(f"the mirror of {self._prefix} is closed")
                await self._moved.wait()

    async def catch_up(self, revision: int, timeout_s: float) -> None:
        """Wait until the copy holds everything up to ``revision``.

        Raises:
            MetadataUnavailable: not within ``timeout_s``, or the mirror is closed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    await self.wait_for(lambda _: self._revision >= revision, CATCH_UP_PATIENCE_S)
                except TimeoutError:
                    # The revision may belong to another prefix, whose changes this watch never shows.
                    while self._revision < revision:
                        await self._relist(replace=False)
                        await asyncio.sleep(0 if self._revision >= revision else CATCH_UP_PATIENCE_S)
        except TimeoutError as error:
            raise MetadataUnavailable(
                f"the mirror of {self._prefix} is at {self._revision}, not at {revision} after {timeout_s} s"
            ) from error

    async def close(self) -> None:
        """Stop following; the copy stays readable. Idempotent."""
        self._closed = True
        self._announce()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        pause_s = RESYNC_PAUSE_S_MIN
        try:
            while not self._closed:
                before = self._revision
                try:
                    await self._watch()
                    break
                except (WatchLost, MetadataUnavailable) as error:
                    log.info("mirror_lost", prefix=self._prefix, revision=self._revision, reason=str(error))
                except Exception:
                    log.exception("mirror_failed", prefix=self._prefix, revision=self._revision)
                if self._revision > before:
                    pause_s = RESYNC_PAUSE_S_MIN
                pause_s = await self._resync(pause_s)
        finally:
            if not self._closed:
                log.info("mirror_ended", prefix=self._prefix, revision=self._revision)
            self._closed = True
            self._announce()

    async def _watch(self) -> None:
        changes = self._store.watch(self._prefix, after_revision=self._revision)
        try:
            async for change in changes:
                self._apply(change)
        finally:
            aclose = getattr(changes, "aclose", None)
            if aclose is not None:
                await aclose()

    async def _resync(self, pause_s: float) -> float:
        """List until the store answers; returns the pause to begin the next loss with."""
        while not self._closed:
            # Random: all mirrors of all processes lose their watch at the same moment.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            pause_s = min(pause_s * 2, RESYNC_PAUSE_S_MAX)
            try:
                await self._relist(replace=True)
            except MetadataUnavailable as error:
                log.debug("mirror_waits", prefix=self._prefix, reason=str(error))
            except Exception:
                log.exception("mirror_failed", prefix=self._prefix, revision=self._revision)
            else:
                log.info("mirror_resynced", prefix=self._prefix, revision=self._revision)
                break
        return pause_s

    async def _relist(self, *, replace: bool) -> None:
        # One listing at a time: of two concurrent listings the older could arrive last.
        async with self._listing:
            self._merge(await self._store.list(self._prefix), replace=replace)

    def _merge(self, listing: Listing, *, replace: bool) -> None:
        """Take over a listing and report what differs.

        With ``replace`` the listing is the truth, also when the store was put back to an older state;
        otherwise what a watch has shown since the listing was made stays.
        """
        if listing.revision < self._revision and not replace:
            return
        present = {entry.key for entry in listing.entries}
        for key in sorted(self._entries.keys() - present):
            if replace or self._entries[key].revision <= listing.revision:
                del self._entries[key]
                self._tell(Change(key, None, listing.revision))
        for entry in listing.entries:
            known = self._entries.get(entry.key)
            if known is None or (known != entry and (replace or known.revision < entry.revision)):
                self._entries[entry.key] = entry
                self._tell(Change(entry.key, entry.value, entry.revision))
        self._revision = listing.revision
        self._announce()

    def _apply(self, change: Change) -> None:
        if change.revision <= self._revision:
            return  # a listing has overtaken the watch
        self._revision = change.revision
        known = self._entries.get(change.key)
        # A listing may hold an entry that is newer than the listing's own revision.
        if known is None or known.revision < change.revision:
            if change.value is not None:
                self._entries[change.key] = Entry(change.key, change.value, change.revision)
                self._tell(change)
            elif known is not None:
                del self._entries[change.key]
                self._tell(change)
        self._announce()

    def _tell(self, change: Change) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(change)
        except Exception:
            log.exception("mirror_listener_failed", prefix=self._prefix, key=change.key)

    def _announce(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
