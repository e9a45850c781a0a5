"""Messages of one subscription whose delivery has failed: attempts, waits, and what becomes of poison. Pure.

A message costs something here only from its first failure until it is acknowledged or expires.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from danube_common.model.failure_policy import REASON_CHARACTERS_MAX, FailurePolicy, PoisonPolicy
from danube_common.model.run import Run


class Stage(Enum):
    """Where a message that failed is."""

    UNREAD = "unread"
    """It failed under an earlier owner, and this one has not read it yet."""
    WAITING = "waiting"
    DELIVERED = "delivered"
    BLOCKED = "blocked"
    DEAD = "dead"
    """It is poison, and has to be dead-lettered or dropped."""


STALE_ENTRIES_MIN = 64
"""The heap of waits is cleared of messages that went elsewhere when so many and half of it are of these."""
HELD = frozenset({Stage.WAITING, Stage.BLOCKED, Stage.DEAD})
"""The stages in which a message is kept here."""


@dataclass(slots=True)
class FailedMessage:
    """A message of which at least one delivery failed.

    Attributes:
        failures: deliveries that failed.
        data: the message while it is kept here; otherwise empty.
        offset: of the message in its topic; 0 until this owner has read it.
        due: when it may be delivered again (monotonic seconds).
        reason: why the last delivery failed, as the client told.
    """

    position: int
    failures: int
    stage: Stage
    data: bytes = b""
    due: float = 0.0
    reason: str = ""
    offset: int = 0


class Retries:
    """Decides when messages come again. What is `HELD` is kept here with its bytes.

    A message comes again only when its failure is journaled: no owner knows less than a consumer was told.

    Args:
        policy: the subscription's.
        ordered: whether a message that is kept holds back those that follow it (exclusive and failover).
        failures: failed deliveries by position, as they were journaled.

    Attributes:
        held: messages that are kept here.
        held_bytes: their bytes.
        unread: messages that failed under an earlier owner and were not read yet.
        blocked: messages that are not delivered again until the policy changes.
        exhausted: messages that became poison, by the policy of that moment.
    """

    def __init__(
        self, policy: FailurePolicy, *, ordered: bool, failures: Mapping[int, int] | None = None
    ) -> None:
        self.policy = policy
        self.held = 0
        self.held_bytes = 0
        self.unread = len(failures or {})
        self.blocked = 0
        self.exhausted = dict.fromkeys(PoisonPolicy, 0)
        self._ordered = ordered
        self._failed = {
            position: FailedMessage(position, count, Stage.UNREAD)
            for position, count in (failures or {}).items()
        }
        self._heap: list[tuple[float, int]] = []
        """(due, position) of what waits or, if the order counts, (0, position) of that and what is blocked.

        Entries of messages that went elsewhere stay until they come up."""
        self._dead: dict[int, FailedMessage] = {}
        self._changed: set[int] = set()
        """Messages whose last failure is not on its way to the journal yet."""
        self._storing: set[int] = set()
        """Messages whose last failure is on its way there."""

    def __len__(self) -> int:
        return len(self._failed)

    @property
    def waiting(self) -> int:
        """Messages that are kept here to be delivered again."""
        return self.held - self.blocked - len(self._dead)

    def failures(self, position: int) -> int:
        """Return how many deliveries of a message failed."""
        found = self._failed.get(position)
        return found.failures if found else 0

    def failures_of(self, runs: Iterable[Run]) -> list[tuple[int, int]]:
        """Return (position, failures) of the messages of runs that failed."""
        known, found = self._failed, []
        for run in runs:
            within = range(run.first, run.last + 1)
            positions = sorted(filter(within.__contains__, known)) if len(known) < len(run) else within
            found += [(each, known[each].failures) for each in positions if each in known]
        return found

    # What happens to a message

    def fail(
        self,
        position: int,
        data: bytes,
        now: float,
        *,
        offset: int = 0,
        requested_ms: int = 0,
        reason: str = "",
    ) -> None:
        """Take in a message whose delivery failed.

        ``requested_ms``: the wait that a negative acknowledgement asks for.
        """
        message = self._failed.get(position)
        if message is None:
            message = self._failed[position] = FailedMessage(position, 0, Stage.DELIVERED)
        message.failures += 1
        message.offset = offset
        message.reason = reason[:REASON_CHARACTERS_MAX]
        message.due = now + self.policy.delay_ms(message.failures, requested_ms) / 1000
        self._changed.add(position)
        if self.policy.is_poison(message.failures):
            self.exhausted[self.policy.poison_policy] += 1
        self._keep(message, data)

    def read(self, position: int, data: bytes, offset: int = 0) -> bool:
        """Take in a message that was read, if it failed under an earlier owner; return whether it did."""
        message = self._failed.get(position)
        if message is None or message.stage is not Stage.UNREAD:
            return False
        self.unread -= 1
        message.offset = offset
        self._keep(message, data)
        return True

    def forget(self, first: int, last: int) -> None:
        """Forget the messages at the positions ``first`` to ``last``: they are acknowledged or expired."""
        known = self._failed
        if len(known) <= last - first:
            positions = [position for position in known if first <= position <= last]
        else:
            positions = [position for position in range(first, last + 1) if position in known]
        for position in positions:
            message = known.pop(position)
            if message.stage is Stage.UNREAD:
                self.unread -= 1
            self._release(message)
            self._changed.discard(position)
            self._storing.discard(position)

    # Redelivery

    def next(self, now: float) -> FailedMessage | None:
        """Return the message to deliver again now; None if none is due and journaled."""
        message = self._head()
        if message is None or message.stage is Stage.BLOCKED or message.due > now:
            return None
        return message if self.is_stored(message.position) else None

    def take(self) -> None:
        """Note that the message which `next` returned is being delivered."""
        if (message := self._head()) is not None:
            heapq.heappop(self._heap)
            self._release(message)
            message.stage = Stage.DELIVERED

    @property
    def first_held(self) -> int | None:
        """The lowest position that holds back those behind it; None if none does."""
        message = self._head() if self._ordered else None
        return message.position if message else None

    @property
    def due(self) -> float | None:
        """When `next` returns a message that is journaled (monotonic seconds); None if there is none."""
        message = self._head()
        return None if message is None or message.stage is Stage.BLOCKED else message.due

    # Redelivery in an order that the caller decides

    def holds(self, position: int) -> bool:
        """Return whether a message is kept here."""
        message = self._failed.get(position)
        return message is not None and message.stage in HELD

    def due_of(self, position: int) -> float | None:
        """Return when a message may be delivered again (monotonic seconds); None if it may not at all."""
        message = self._failed[position]
        return message.due if message.stage is Stage.WAITING else None

    def take_at(self, position: int) -> tuple[bytes, int]:
        """Note that a message which waits is being delivered, and return it with its offset."""
        message = self._failed[position]
        data = message.data
        self._release(message)
        message.stage = Stage.DELIVERED
        return data, message.offset

    # Poison

    @property
    def has_dead(self) -> bool:
        """Whether there are messages to drop or to dead-letter."""
        return bool(self._dead)

    @property
    def dead(self) -> list[FailedMessage]:
        """The messages to drop or to dead-letter, which `forget` removes when that is done."""
        return list(self._dead.values())

    @property
    def first_blocked(self) -> FailedMessage | None:
        """The blocked message with the lowest position."""
        if not self.blocked:
            return None
        return min(
            (each for each in self._failed.values() if each.stage is Stage.BLOCKED),
            key=lambda each: each.position,
        )

    def change_policy(self, policy: FailurePolicy, now: float) -> None:
        """Apply another policy from now on, also to what is poison; waits become no longer than it allows."""
        self.policy = policy
        self._heap.clear()
        for message in self._failed.values():
            if message.stage in HELD:
                data = message.data
                message.due = min(message.due, now + policy.max_redelivery_delay_ms / 1000)
                self._release(message)
                self._keep(message, data)

    # Journal

    @property
    def has_changes(self) -> bool:
        """Whether `take_changes` returns something."""
        return bool(self._changed)

    def take_changes(self) -> list[tuple[int, int]]:
        """Return (position, failures) of what has failed since the last call, in ascending order."""
        changed, self._changed = self._changed, set()
        self._storing |= changed
        return [(position, self._failed[position].failures) for position in sorted(changed)]

    def is_stored(self, position: int) -> bool:
        """Return whether every failure of a message is journaled."""
        return position not in self._changed and position not in self._storing

    def stored(self) -> bool:
        """Note that what `take_changes` returned is journaled; return whether that was anything."""
        stored, self._storing = bool(self._storing), set()
        return stored

    def _head(self) -> FailedMessage | None:
        """Return the first message of the heap that is still where the entry says."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._failed[self._heap[0][1]] if self._heap else None

    def _is_current(self, entry: tuple[float, int]) -> bool:
        due, position = entry
        message = self._failed.get(position)
        if message is None:
            return False
        if self._ordered:
            return message.stage in (Stage.WAITING, Stage.BLOCKED)
        return message.stage is Stage.WAITING and message.due == due

    def _keep(self, message: FailedMessage, data: bytes) -> None:
        message.data = data
        self.held += 1
        self.held_bytes += len(data)
        policy = self.policy
        if not policy.is_poison(message.failures):
            message.stage = Stage.WAITING
        elif policy.poison_policy is PoisonPolicy.BLOCK:
            message.stage = Stage.BLOCKED
            self.blocked += 1
        else:
            message.stage = Stage.DEAD
            self._dead[message.position] = message
        if message.stage is Stage.WAITING or (message.stage is Stage.BLOCKED and self._ordered):
            if len(self._heap) > 2 * self.held + STALE_ENTRIES_MIN:
                self._heap = [entry for entry in self._heap if self._is_current(entry)]
                heapq.heapify(self._heap)
            heapq.heappush(self._heap, (0.0 if self._ordered else message.due, message.position))

    def _release(self, message: FailedMessage) -> None:
        if message.stage not in HELD:
            return
        self.held -= 1
        self.held_bytes -= len(message.data)
        message.data = b""
        if message.stage is Stage.BLOCKED:
            self.blocked -= 1
        elif message.stage is Stage.DEAD:
            del self._dead[message.position]
