"""One consumer stream: queued deliveries, credit, and detection of lost deliveries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from danube_common.errors import DanubeError
from danube_common.model.bundle import Bundle
from danube_common.model.run import Run, back_to_back
from danube_common.wire.delivery import Delivery
from danube_common.wire.owner.sessions import Attach, SessionState
from danube_gateway.consume.source import Source

WINDOW_MESSAGES = 1000
"""Credit of one stream: messages that the owner sent and the client has not taken."""
WINDOW_BYTES = 4 * 1024 * 1024
WINDOW_BYTES_MIN = 64 * 1024
"""The least credit of a stream, however many its connection has."""
CONNECTION_WINDOW_BYTES = 128 * 1024 * 1024
"""Credit of all streams of one connection, beyond which each further one gets WINDOW_BYTES_MIN."""
REGRANT_PART = 4
"""Credit is renewed each time the client has taken 1/REGRANT_PART of the window."""


class Arrival(Enum):
    """The result of taking in a delivery."""

    TAKEN = "taken"
    STALE = "stale"
    GAP = "gap"


class Status(NamedTuple):
    """How a consumer stands.

    Attributes:
        standby: whether it gets nothing as long as another one is active.
        caught_up: whether its client got everything that its subscription had to send.
        lost: messages that the subscription lost.
        lost_told: how many of them its consumers were told of.
    """

    standby: bool
    caught_up: bool
    lost: int = 0
    lost_told: int = 0


class Part(NamedTuple):
    """A delivery that arrived, or what is left of it: runs, their messages and the bytes of these."""

    runs: Sequence[Run]
    messages: int
    size: int


class Session:
    """One consumer stream at this gateway. Each attach starts a new ``number`` and counts credit from 0."""

    def __init__(
        self,
        consumer_id: int,
        bundle: Bundle,
        number: int,
        *,
        prefetch: int = 0,
        client: str = "",
        window_messages: int = WINDOW_MESSAGES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self.consumer_id = consumer_id
        self.bundle = bundle
        self.number = number
        self.client = client
        """The client's connection, unique among all gateways."""
        self.prefetch = prefetch
        """Unacknowledged messages that the client takes at once; 0 leaves it to the owner."""
        self.window_messages = window_messages
        """Its credit in messages."""
        self.window_bytes = window_bytes
        """Its credit in bytes (`window_bytes`)."""
        self._window = (window_messages, window_bytes)
        """The credit at present, which `limit` makes smaller."""
        self.topic = ""
        self.subscription = ""
        self.reliable = True
        self.generation = 0
        """Of the subscription: acknowledgements carry it."""
        self.epoch = 0
        self.received = 0
        self.attaching = True
        self.closed = False
        self.end: DanubeError | None = None
        self.source: Source | None = None
        """Where what the client takes is noted; None while the session was never attached."""
        self._queue: deque[Part] = deque()
        self._failures: dict[int, int] = {}
        """How often the delivery of messages in the queue failed before, by position."""
        self._held = (0, 0)
        """Messages and bytes that arrived and that the client has not taken, including the current batch."""
        self._arrived = asyncio.Event()
        self._held_at_start = (0, 0)
        self._drained = (0, 0)
        self._granted = (0, 0)
        """The totals of which the owner was told last."""
        self.sent_before = 0
        self.on_status: Callable[[Status], None] | None = None
        """Called with what each Sync told."""

    # Towards the client

    async def next_batch(self) -> list[Run] | None:
        """Wait for deliveries and return at least one message; None when the stream is over.

        The client may acknowledge them from now on.
        """
        while await self.arrival():
            batch = [run for part in self._queue for run in part.runs]
            self._queue.clear()
            if taken := self._hand_out(batch):
                return taken
        return None

    async def arrival(self) -> bool:
        """Wait until there is something to take; return False when the stream is over."""
        while not self._queue:
            if self.closed:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    def take(self, messages: int, size: int) -> list[Run]:
        """Return what has arrived without waiting: at most so many messages, and bytes but for one message.

        The client may acknowledge them from now on.
        """
        queue = self._queue
        while queue and messages > 0 and size > 0:
            batch: list[Run] = []
            while queue and messages > 0 and size > 0:
                part = queue.popleft()
                if part.messages > messages or part.size > size:
                    part, rest = divided(part, messages, size)
                    if rest.messages:
                        queue.appendleft(rest)
                batch += part.runs
                messages -= part.messages
                size -= part.size
            if taken := self._hand_out(batch):
                return taken
        return []

    def take_failures(self, runs: Iterable[Run]) -> list[tuple[int, int]]:
        """Return (index, failures) of those messages of runs just taken whose delivery failed before."""
        found: list[tuple[int, int]] = []
        if self._failures:
            for index, position in enumerate(_positions(runs)):
                if failures := self._failures.pop(position, 0):
                    found.append((index, failures))
        return found

    def _hand_out(self, batch: list[Run]) -> list[Run]:
        if self.source is None or (taken := self.source.hand_out(self, batch)) is batch:
            return batch
        if self._failures:
            kept = set(_positions(taken))
            for position in _positions(batch):
                if position not in kept:
                    self._failures.pop(position, None)
        self.drained(*(all_ - left for all_, left in zip(extent(batch), extent(taken), strict=True)))
        return taken

    def drained(self, messages: int, size: int) -> bool:
        """Note that the client took messages; return True when the owner should be told of the credit."""
        self._held = (self._held[0] - messages, self._held[1] - size)
        self._drained = (self._drained[0] + messages, self._drained[1] + size)
        return self.due

    def limit(self, messages: int, size: int) -> bool:
        """Let the owner send at most so much that the client has not taken; as `drained`."""
        self._window = (min(messages, self.window_messages), min(size, self.window_bytes))
        return self.due

    @property
    def due(self) -> bool:
        """Whether the owner should be told of the credit."""
        (messages, size), granted, window = self._totals(), self._granted, self._window
        return messages - granted[0] >= (window[0] // REGRANT_PART or 1) or (
            size - granted[1] >= (window[1] // REGRANT_PART or 1)
        )

    def _totals(self) -> tuple[int, int]:
        """Return the credit since the session's start."""
        window, held, drained = self._window, self._held_at_start, self._drained
        return max(window[0] - held[0] + drained[0], 0), max(window[1] - held[1] + drained[1], 0)

    def close(self, error: DanubeError | None = None, *, drop: bool = False) -> None:
        """End the stream after its queued deliveries, or, with ``drop``, at once; ``error`` is its status."""
        if drop:
            self._queue.clear()
        if not self.closed:
            self.closed, self.end = True, error
            self._arrived.set()

    # Towards the owner

    def arrive(self, delivery: Delivery) -> Arrival:
        """Take a delivery in if it is the next one of this session and epoch."""
        if delivery.session != self.number or delivery.epoch < self.epoch or self.closed:
            return Arrival.STALE
        if delivery.epoch > self.epoch:
            # The next owner answered the attach: deliveries of the first owner are void.
            self._begin(delivery.epoch, keep=not self.reliable)
        if delivery.number != self.received + 1:
            return Arrival.STALE if delivery.number <= self.received else Arrival.GAP
        self.received = delivery.number
        if not self._queue:
            self._failures.clear()  # of messages that were taken without a look at these
        self._failures.update(delivery.failures)
        part = Part(delivery.runs, *extent(delivery.runs))
        self._queue.append(part)
        self._hold(part, 1)
        self._arrived.set()
        return Arrival.TAKEN

    def attach(self, gateway: str, number: int, epoch: int, *, resumes: bool) -> Attach:
        """Return the request that opens this session, or opens it again after a loss.

        Resuming continues with the same owner after lost deliveries. Otherwise the owner has changed: it
        sends unacknowledged messages again, so messages queued here are dropped.
        """
        before, received = (self.number, self.received) if resumes else (0, 0)
        self.number, self.attaching = number, True
        self._begin(epoch, keep=resumes or not self.reliable)
        return Attach(
            self.consumer_id,
            gateway,
            number,
            *self._granted,
            before,
            received,
            self.prefetch,
            self.client,
        )

    def _begin(self, epoch: int, *, keep: bool) -> None:
        """Restart the counts of deliveries and credit, and drop queued messages unless ``keep``."""
        if not keep:
            for part in self._queue:
                self._hold(part, -1)
            self._queue.clear()
        self.epoch, self.received, self.sent_before = epoch, 0, 0
        self._held_at_start = self._held
        self._drained = (0, 0)
        self._granted = self._totals()

    def _hold(self, part: Part, sign: int) -> None:
        self._held = (self._held[0] + sign * part.messages, self._held[1] + sign * part.size)

    def state(self) -> SessionState:
        """Return the current credit as totals since the session's start."""
        self._granted = self._totals()
        return SessionState(self.consumer_id, self.number, *self._granted)

    def tell_status(self, sent: int, *, standby: bool, caught_up: bool, losses: tuple[int, int]) -> None:
        """Hand over how its owner, whose last delivery was ``sent``, says that it stands."""
        if self.on_status is not None:
            all_taken = caught_up and sent == self.received and not self._queue
            self.on_status(Status(standby, all_taken, *losses))

    def lost_tail(self, sent: int) -> bool:
        """Return whether the owner reported the same last delivery twice and it has not arrived."""
        lost = sent > self.received and sent == self.sent_before
        self.sent_before = sent
        return lost


def window_bytes(granted: int) -> int:
    """Return the credit in bytes of one more stream of a connection whose streams have ``granted``.

    The first gets WINDOW_BYTES, and each further one the same part of what is left for the connection.
    """
    left = CONNECTION_WINDOW_BYTES - granted
    return min(max(left * WINDOW_BYTES // CONNECTION_WINDOW_BYTES, WINDOW_BYTES_MIN), WINDOW_BYTES)


def _positions(runs: Iterable[Run]) -> Iterator[int]:
    for run in runs:
        yield from range(run.first, run.first + len(run))


def divided(part: Part, messages: int, size: int) -> tuple[Part, Part]:
    """Return the first so many messages, which may exceed ``size`` in bytes by one of them, and the rest."""
    taken: list[Run] = []
    rest = deque(part.runs)
    count = taken_size = 0
    while rest and count < messages and taken_size < size:
        run = rest.popleft()
        head = run.head(min(messages - count, run.count_until(size - taken_size)))
        if len(head) < len(run):
            rest.appendleft(run.tail(len(head)))
        taken.append(head)
        count += len(head)
        taken_size += head.size
    return Part(taken, count, taken_size), Part(list(rest), part.messages - count, part.size - taken_size)


def extent(runs: Iterable[Run]) -> tuple[int, int]:
    """Return the number of messages and of their bytes."""
    messages = size = 0
    for stretch in back_to_back(runs):
        messages += len(stretch)
        size += stretch.size
    return messages, size
