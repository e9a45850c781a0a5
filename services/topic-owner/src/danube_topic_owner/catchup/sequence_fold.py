"""Keeps the last stored sequence of each idempotent producer, from the frames of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from danube_common.archive.state import read_archive_state
from danube_common.errors import DanubeError, LogUnavailable, MetadataUnavailable, NotFound, Unavailable
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.wire.frame import ProducerBatch, producer_batch_of
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.journal.events import producers_stored

CHECKPOINT_S: Final = 1.0
"""What producers have stored is journaled this often: the next owner reads the log from there."""
QUIET_CHECKPOINT_S: Final = 5.0
"""The same while no idempotent producer publishes."""
BARRIER_S: Final = 1.5
"""The log's end is read within this time, or the question is refused and asked again."""
POLL_S: Final = 0.005
RETRY_WAIT_S: Final = 0.2
FRAMES_PER_READ_MAX: Final = 64
BYTES_PER_READ_MAX: Final = 4 * 1024 * 1024

_log = structlog.get_logger(__name__)


class SequenceFold:
    """Folds frames into the bundle's state: first what an earlier owner had not journaled, then what comes.

    What storage has purged from the log meanwhile is in the state of the bundle's archive.

    Args:
        context: of the bundle.
        read_on: has the end of the log looked up now.
    """

    def __init__(self, context: OwnerContext, read_on: Callable[[], None]) -> None:
        self._context = context
        self._read_on = read_on
        self._changed: dict[int, None] = {}
        self._complete = False
        """Whether everything up to the tail is folded."""
        self._missed = asyncio.Event()
        """Set while something that was purged is not folded."""

    def note(self, batch: ProducerBatch) -> None:
        """Fold a frame."""
        self._context.state.sequences.note(batch.key, batch.last)
        self._changed[batch.key] = None

    async def last(self, key: int) -> int:
        """Return a producer's last sequence in all that is in the log now. Raises Unavailable."""
        context = self._context
        end = (await context.ports.log.bounds(context.bundle)).last_sequence
        deadline = time.monotonic() + BARRIER_S
        while not self._complete or context.extent.tail < end:
            if time.monotonic() > deadline:
                raise Unavailable(f"the log of bundle {context.bundle} was not read to its end in time")
            self._read_on()
            await asyncio.sleep(POLL_S)
        return context.state.sequences.last(key)

    def missed(self) -> None:
        """The log was purged beyond what was read of it: storage has noted what was stored there."""
        self._complete = False
        self._missed.set()

    async def run(self) -> None:
        """Read what is behind the last checkpoint, then write checkpoints, until cancelled."""
        context = self._context
        await self._catch_up(context.state.sequences.through + 1, context.extent.tail)
        quiet_since = time.monotonic()
        while True:
            if self._missed.is_set():
                self._missed.clear()
                await self._fold_archived()
            self._complete = not self._missed.is_set()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECKPOINT_S):
                    await self._missed.wait()
            now = time.monotonic()
            if self._changed or now - quiet_since >= QUIET_CHECKPOINT_S:
                quiet_since = now
                self.checkpoint()

    def checkpoint(self) -> None:
        """Journal what was folded since the last time; nothing before all up to the tail is."""
        context, sequences = self._context, self._context.state.sequences
        if self._complete and (self._changed or context.extent.tail > sequences.through):
            lasts = [(key, sequences.last(key)) for key in self._changed]
            self._changed.clear()
            context.writer.record(*producers_stored(context.extent.tail, lasts))

    async def _catch_up(self, first: int, last: int) -> None:
        log, bundle = self._context.ports.log, self._context.bundle
        while first <= last:
            try:
                entries = await log.read(
                    bundle, first, frames_max=FRAMES_PER_READ_MAX, bytes_max=BYTES_PER_READ_MAX
                )
            except (LogUnavailable, NotFound) as error:
                await self._wait(error)
                continue
            if not entries or entries[0].sequence > first:
                self._missed.set()
            for entry in entries:
                if entry.sequence <= last and (batch := producer_batch_of(entry.frame)) is not None:
                    self.note(batch)
            if not entries:
                return
            first = entries[-1].sequence + 1

    async def _fold_archived(self) -> None:
        """Fold what storage had noted before it purged the log."""
        context = self._context
        while True:
            try:
                state = await read_archive_state(context.ports.metadata, context.bundle)
                break
            except MetadataUnavailable as error:
                await self._wait(error)
        sequences = context.state.sequences
        for key, last in ProducerSequences.unpack(state.sequences).items():
            if last > sequences.last(key):
                sequences.note(key, last)
                self._changed[key] = None

    async def _wait(self, error: DanubeError) -> None:
        _log.warning("sequences_retried", bundle=str(self._context.bundle), error=str(error))
        await asyncio.sleep(RETRY_WAIT_S)
