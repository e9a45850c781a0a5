"""What a producer has to send and what of it is unanswered: batches, sequences and the window. Pure.

Each partition numbers its messages from 1, and sends batch after batch. While a batch is on its way the
messages behind it gather to the next, which leaves when that batch is answered or when it is full. So batches
grow with the load, and nobody waits for one to fill.

After a lost connection what was not answered is sent again, in the same batches with the same numbers, which
the platform recognizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from danube_client.stream.batch import TABLE_ENTRY_BYTES, Entry

BATCH_BYTES: Final = 512 * 1024
"""A batch of so many bytes is full, if the platform takes as many."""
BATCH_MESSAGES: Final = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What the platform takes at once.

    Attributes:
        batch_bytes: of the body of one batch of several messages.
        batch_messages: of one batch.
        window_bytes: of the bodies of all unanswered batches; one batch may always be sent.
        window_messages: in all unanswered batches.
        pipelined: whether a partition's batch may leave before the one ahead of it is answered.
    """

    batch_bytes: int = BATCH_BYTES
    batch_messages: int = BATCH_MESSAGES
    window_bytes: int = 1 << 40
    window_messages: int = 1 << 40
    pipelined: bool = True


@dataclass(slots=True, eq=False)
class SentBatch:
    """A batch that has its numbers.

    Attributes:
        request: what `seal` made of it, to be sent, and sent again.
        outcomes: what the senders of its messages wait for, in order.
    """

    partition: int
    first_sequence: int
    body_bytes: int
    request: Any
    outcomes: list[Any]

    @property
    def last_sequence(self) -> int:
        """The number of its last message."""
        return self.first_sequence + len(self.outcomes) - 1


Seal = Callable[[int, int, Sequence[Entry]], Any]
"""Makes the request of (partition, first sequence, entries)."""


@dataclass(slots=True)
class Lane:
    """One partition.

    Attributes:
        held: nothing new leaves, because a batch was refused for a reason that may pass.
    """

    next_sequence: int
    pending: deque[Entry] = field(default_factory=deque)
    pending_bytes: int = 0
    sent: deque[SentBatch] = field(default_factory=deque)
    returned: list[Entry] = field(default_factory=list)
    held: bool = False


class Outbox:
    """The messages of one producer that are not answered yet."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._lanes: list[Lane] = []
        self._limits = Limits()
        self._again: deque[SentBatch] = deque()
        self._turn = 0
        self.in_flight_messages = 0
        self.in_flight_bytes = 0

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._lanes)

    @property
    def empty(self) -> bool:
        """Whether every message is answered."""
        return all(not lane.pending and not lane.sent and not lane.returned for lane in self._lanes)

    @property
    def full(self) -> bool:
        """Whether a batch need not wait for more messages."""
        return any(self._is_full(lane) for lane in self._lanes)

    def open(self, last_sequences: Sequence[int], limits: Limits) -> None:
        """Begin with a new connection: what was not answered is to be sent again.

        Args:
            last_sequences: of each partition, the number of its last stored message. It counts when the
                partition is new to this outbox; later the outbox knows better.
            limits: what the platform takes.
        """
        self._limits = limits
        self.in_flight_messages = self.in_flight_bytes = 0
        self._again = deque(batch for lane in self._lanes for batch in lane.sent)
        self.grow(last_sequences)

    def is_overtaken(self, last_sequences: Sequence[int]) -> bool:
        """Return whether more is stored than was ever sent: another program uses the producer's name."""
        return any(
            last >= lane.next_sequence for lane, last in zip(self._lanes, last_sequences, strict=False)
        )

    def grow(self, last_sequences: Sequence[int]) -> None:
        """Take the partitions that are new."""
        for last in last_sequences[len(self._lanes) :]:
            self._lanes.append(Lane(last + 1))

    def set_window(self, messages: int, size: int) -> None:
        """Take another window."""
        limits = self._limits
        self._limits = Limits(limits.batch_bytes, limits.batch_messages, size, messages, limits.pipelined)

    def add(self, partition: int, entry: Entry) -> None:
        """Take a message to be sent."""
        lane = self._lanes[partition]
        lane.pending.append(entry)
        lane.pending_bytes += entry[3] + TABLE_ENTRY_BYTES

    def next(self) -> SentBatch | None:
        """Return the batch that is to be sent now, if there is one."""
        if self._again:
            batch = self._again[0]
            if not self._has_room(len(batch.outcomes), batch.body_bytes):
                return None
            return self._leave(self._again.popleft())
        lanes = len(self._lanes)
        for step in range(lanes):
            index = (self._turn + step) % lanes
            if self._is_due(self._lanes[index]):
                self._turn = (index + 1) % lanes
                return self._leave(self._cut(index))
        return None

    def stored(self, partition: int, through: int) -> list[SentBatch]:
        """Return the batches that are answered, in order: all up to the number ``through``."""
        lane = self._lanes[partition]
        done = []
        while lane.sent and lane.sent[0].last_sequence <= through:
            batch = lane.sent.popleft()
            self._arrived(batch)
            done.append(batch)
        return done

    def refused(self, partition: int, first_sequence: int) -> SentBatch | None:
        """Return the batch that is refused; None if it was answered before."""
        lane = self._lanes[partition]
        for batch in lane.sent:
            if batch.first_sequence == first_sequence:
                lane.sent.remove(batch)
                self._arrived(batch)
                return batch
        return None

    def give_back(self, partition: int, entries: Sequence[Entry]) -> None:
        """Hold a partition, to send these again when all on its way is answered and `release` is called.

        They get new numbers and keep their order, among themselves and ahead of what gathered meanwhile.
        """
        lane = self._lanes[partition]
        lane.returned.extend(entries)
        lane.held = True

    def releasable(self) -> list[int]:
        """Return the partitions that are held and have nothing on its way."""
        return [index for index, lane in enumerate(self._lanes) if lane.held and not lane.sent]

    def release(self, partition: int) -> None:
        """Let a partition go on that was held."""
        lane = self._lanes[partition]
        lane.pending.extendleft(reversed(lane.returned))
        lane.pending_bytes += sum(entry[3] + TABLE_ENTRY_BYTES for entry in lane.returned)
        lane.returned.clear()
        lane.held = False

    def drop_all(self) -> list[Any]:
        """Return what all senders wait for, oldest first in each partition, and forget the messages."""
        outcomes: list[Any] = []
        for lane in self._lanes:
            for batch in lane.sent:
                outcomes.extend(batch.outcomes)
            outcomes.extend(entry[4] for entry in (*lane.returned, *lane.pending))
            lane.sent.clear()
            lane.pending.clear()
            lane.returned.clear()
            lane.pending_bytes = 0
            lane.held = False
        self._again.clear()
        self.in_flight_messages = self.in_flight_bytes = 0
        return outcomes

    def _is_full(self, lane: Lane) -> bool:
        limits = self._limits
        return lane.pending_bytes >= limits.batch_bytes or len(lane.pending) >= limits.batch_messages

    def _is_due(self, lane: Lane) -> bool:
        if not lane.pending or lane.held:
            return False
        if lane.sent and not (self._limits.pipelined and self._is_full(lane)):
            return False
        limits = self._limits
        first_bytes = lane.pending[0][3] + TABLE_ENTRY_BYTES  # it leaves even if it is larger than a batch
        return self._has_room(
            min(len(lane.pending), limits.batch_messages),
            max(min(lane.pending_bytes, limits.batch_bytes), first_bytes),
        )

    def _has_room(self, messages: int, size: int) -> bool:
        limits = self._limits
        return not self.in_flight_messages or (
            self.in_flight_messages + messages <= limits.window_messages
            and self.in_flight_bytes + size <= limits.window_bytes
        )

    def _cut(self, index: int) -> SentBatch:
        lane, limits = self._lanes[index], self._limits
        messages_max = limits.batch_messages
        if not self.in_flight_messages:  # also a window that is smaller than a batch
            messages_max = max(min(messages_max, limits.window_messages), 1)
        entries: list[Entry] = []
        size = 0
        pending = lane.pending
        while pending and len(entries) < messages_max:
            more = pending[0][3] + TABLE_ENTRY_BYTES
            if entries and size + more > limits.batch_bytes:
                break
            size += more
            entries.append(pending.popleft())
        lane.pending_bytes -= size
        request = self._seal(index, lane.next_sequence, entries)
        batch = SentBatch(index, lane.next_sequence, size, request, [entry[4] for entry in entries])
        lane.next_sequence += len(entries)
        lane.sent.append(batch)
        return batch

    def _leave(self, batch: SentBatch) -> SentBatch:
        self.in_flight_messages += len(batch.outcomes)
        self.in_flight_bytes += batch.body_bytes
        return batch

    def _arrived(self, batch: SentBatch) -> None:
        if batch in self._again:  # not sent again yet
            self._again.remove(batch)
            return
        self.in_flight_messages -= len(batch.outcomes)
        self.in_flight_bytes -= batch.body_bytes
