"""Forwards the acknowledgements of one bundle to its owner, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import DanubeError, LimitExceeded, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.owner.acknowledgements import (
    ACKS_PER_BATCH_MAX,
    Acks,
    TopicAcks,
    ack_ranges,
    span_ranges,
)
from danube_gateway.gateway_metrics import GatewayMetrics

UNCONFIRMED_ACKS_MAX = 5_000
"""Acknowledgements per bundle that were answered and that the owner has not confirmed. At the bound further
ones are answered when the owner has taken them. Half a batch, so that one batch takes all of them."""
PENDING_ACKS_MAX = 100_000
"""Acknowledgements that may wait for the owner's answer, per bundle; more are refused."""
GATHER_S = 0.01
"""After a batch the next one gathers for so long, unless somebody waits for it. What a client gets goes on
meanwhile, up to the window of unacknowledged messages."""

RETRY_WAIT_S = 0.1

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Delivered(NamedTuple):
    """What a message was delivered for: a subscription of a topic, in one of its generations."""

    topic: str
    subscription: str
    generation: int


Span = tuple[int, int]
"""The first and the last of adjacent positions."""


@dataclass(slots=True)
class Accepted:
    """Acknowledgements of one subscription that were answered: single positions, and spans of them."""

    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of acknowledgements."""
        return len(self.positions) + len(self.spans)

    def behind(self, later: Accepted | None) -> Accepted:
        """Return these and later ones."""
        if later is None:
            return self
        return Accepted(self.positions + later.positions, self.spans + later.spans)


_Waiting = tuple[Delivered, int, "asyncio.Future[None]"]


@dataclass(slots=True)
class _Batch:
    """What one request to the owner carries, and who waits for its answer.

    Attributes:
        accepted: what clients were answered for already.
        waiting: acknowledgements that are answered with the owner's answer.
        flushes: callers of `AckForwarder.confirmed`.
    """

    accepted: dict[Delivered, Accepted] = field(default_factory=dict)
    waiting: list[_Waiting] = field(default_factory=list)
    flushes: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Accepted acknowledgements."""
        return sum(map(len, self.accepted.values()))

    def request(self) -> Acks | None:
        """Return the request; None if there is nothing to tell the owner."""
        positions = {delivered: list(accepted.positions) for delivered, accepted in self.accepted.items()}
        for delivered, position, _ in self.waiting:
            positions.setdefault(delivered, []).append(position)
        if not positions:
            return None
        return Acks(
            [
                TopicAcks(each.topic, each.subscription, self._ranges(each, acked), each.generation)
                for each, acked in positions.items()
            ]
        )

    def _ranges(self, delivered: Delivered, positions: list[int]) -> list[int]:
        accepted = self.accepted.get(delivered)
        if accepted is None or not accepted.spans:
            return ack_ranges(positions)
        return span_ranges([*accepted.spans, *((each, each) for each in positions)])


class AckForwarder:
    """Keeps one batch in flight; what comes meanwhile goes into the next one.

    An acknowledgement is either accepted, and then repeated until an owner has confirmed it, or it waits and
    gets the owner's answer.
    """

    def __init__(self, bundle: Bundle, owners: OwnerClient, metrics: GatewayMetrics) -> None:
        self.bundle = bundle
        self.unconfirmed = 0
        """Accepted acknowledgements that no owner has confirmed."""
        self._owners = owners
        self._gauge = metrics.unconfirmed_acks.labels(str(bundle))
        self._metrics = metrics
        self._accepted: dict[Delivered, Accepted] = {}
        self._in_flight: dict[Delivered, Accepted] = {}
        """What was accepted and is in the batch in flight."""
        self._waiting: deque[_Waiting] = deque()
        self._flushes: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether `accept` may be called."""
        return self.unconfirmed < UNCONFIRMED_ACKS_MAX

    def accept(self, delivered: Delivered, position: int, *, urgent: bool = False) -> None:
        """Take an acknowledgement whose client is answered now.

        ``urgent``: its stream gets nothing more before its owner has the acknowledgement.
        """
        self.unconfirmed += 1
        accepted = self._accepted.get(delivered)
        if accepted is None:
            self._accepted[delivered] = Accepted([position])
            self._wake.set()
        else:
            accepted.positions.append(position)
        if urgent:
            self._urgent.set()

    def accept_spans(self, delivered: Delivered, spans: list[Span]) -> None:
        """Take acknowledgements of adjacent positions, each of which counts as one."""
        self.unconfirmed += len(spans)
        self._accepted.setdefault(delivered, Accepted()).spans += spans
        self._wake.set()

    def unconfirmed_of(self, delivered: Delivered, lowest: int, highest: int) -> list[Span]:
        """Return what of a subscription was accepted and no owner has confirmed, in no order.

        Only spans that contain positions from ``lowest`` to ``highest``.
        """
        found: list[Span] = []
        for accepted in (self._in_flight.get(delivered), self._accepted.get(delivered)):
            if accepted is not None:
                found += [span for span in accepted.spans if span[1] >= lowest and span[0] <= highest]
                found += [(each, each) for each in accepted.positions if lowest <= each <= highest]
        return found

    async def acknowledge(self, delivered: Delivered, position: int) -> None:
        """Acknowledge a position. Raises NotFound (no such subscription), LimitExceeded, Unavailable."""
        if len(self._waiting) >= PENDING_ACKS_MAX:
            raise LimitExceeded("pending_acks", f"{PENDING_ACKS_MAX} acknowledgements wait already")
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((delivered, position, done))
        self._wake.set()
        self._urgent.set()
        await done

    async def confirmed(self) -> None:
        """Wait until an owner has confirmed what was accepted before, or does not know its subscription."""
        if not self.unconfirmed:
            return
        done = asyncio.get_running_loop().create_future()
        self._flushes.append(done)
        self._wake.set()
        self._urgent.set()
        await done

    async def run(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._urgent.clear()
            if not await self._send(self._next_batch()):
                await asyncio.sleep(RETRY_WAIT_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._urgent.wait()

    def _next_batch(self) -> _Batch:
        batch = _Batch(self._accepted, [], self._flushes)
        self._in_flight, self._accepted, self._flushes = self._accepted, {}, []
        room = ACKS_PER_BATCH_MAX - batch.count
        batch.waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), room))]
        if self._waiting:
            self._wake.set()
        return batch

    async def _send(self, batch: _Batch) -> bool:
        """Send a batch and answer those who wait; return False if no owner took it."""
        self._gauge.set(self.unconfirmed)
        error: DanubeError | None = None
        unknown: set[tuple[str, str]] = set()
        try:
            if (request := batch.request()) is not None:
                unknown = set((await self._owners.ask(self.bundle, request)).unknown)
        except DanubeError as failure:
            error = failure
        self._in_flight = {}
        if isinstance(error, Unavailable):
            self._take_back(batch)
        else:
            self._settle(batch, unknown, error)
        for (topic, subscription, _), _, done in batch.waiting:
            if done.done():
                continue
            if error is not None:
                done.set_exception(error)
            elif (topic, subscription) in unknown:
                done.set_exception(NotFound(f"topic {topic} has no subscription {subscription!r}"))
            else:
                done.set_result(None)
        return not isinstance(error, Unavailable)

    def _take_back(self, batch: _Batch) -> None:
        """Repeat what was accepted with the next batch."""
        if batch.accepted:
            _log.warning("acks_repeated", bundle=str(self.bundle), acks=batch.count)
        for delivered, accepted in batch.accepted.items():
            self._accepted[delivered] = accepted.behind(self._accepted.get(delivered))
        self._flushes = batch.flushes + self._flushes
        if self._accepted or self._flushes:
            self._wake.set()

    def _settle(self, batch: _Batch, unknown: set[tuple[str, str]], error: DanubeError | None) -> None:
        self.unconfirmed -= batch.count
        self._gauge.set(self.unconfirmed)
        for delivered, accepted in batch.accepted.items():
            if error is not None or delivered[:2] in unknown:
                # Their clients were told that they count. The streams of a deleted subscription end anyway.
                self._metrics.void_acks.labels(delivered.topic).inc(len(accepted))
                reason = str(error) if error else "the subscription was deleted"
                _log.warning("acks_void", **delivered._asdict(), acks=len(accepted), reason=reason)
        for done in batch.flushes:
            if not done.done():
                done.set_result(None)
