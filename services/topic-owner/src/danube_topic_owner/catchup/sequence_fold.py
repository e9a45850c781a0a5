"""Keeps the last stored sequence of each idempotent producer, from the frames of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from danube_common.errors import LogUnavailable, NotFound, Unavailable
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

    async def run(self) -> None:
        """Read what is behind the last checkpoint, then write checkpoints, until cancelled."""
        context = self._context
        await self._catch_up(context.state.sequences.through + 1, context.extent.tail)
        self._complete = True
        quiet_since = time.monotonic()
        while True:
            await asyncio.sleep(CHECKPOINT_S)
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
        if first < self._context.extent.floor <= last and first > 1:
            _log.warning(
                "sequences_missed", bundle=str(bundle), first=first, floor=self._context.extent.floor
            )
        while first <= last:
            try:
                entries = await log.read(
                    bundle, first, frames_max=FRAMES_PER_READ_MAX, bytes_max=BYTES_PER_READ_MAX
                )
            except (LogUnavailable, NotFound) as error:
                _log.warning("sequences_retried", bundle=str(bundle), error=str(error))
                await asyncio.sleep(RETRY_WAIT_S)
                continue
            for entry in entries:
                if entry.sequence <= last and (batch := producer_batch_of(entry.frame)) is not None:
                    self.note(batch)
            if not entries:
                return
            first = entries[-1].sequence + 1
