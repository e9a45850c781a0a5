"""Key-shared dispatch: the messages of one key go to one consumer, in order. Pure.

A key has several messages in flight at a time, all at one consumer. Per key:

- Messages are sent in the order of their positions. One that failed holds back those that follow it, and
  those that were delivered already come again after it. Other keys go on.
- If consumers come or go, a key moves when nothing of it is in flight at its old consumer any more.
- A key that no consumer may have waits.

The order among keys does not count (docs/adr/0037-a-key-waits-and-never-loses.md).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.position import BEFORE_ALL
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Deliveries, Outgoing
from danube_topic_owner.delivery.key_ring import KeyRing, key_of
from danube_topic_owner.delivery.reliable import DEFAULT_POLICY, FAILED_BYTES_MAX, ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor

KEYED_MESSAGES_MAX: Final = 20_000
"""Messages that were read and wait. At the bound nothing more is read: keys that cannot go hold up the others
only then."""
KEYED_BYTES_MAX: Final = 32 * 1024 * 1024
"""The same in bytes."""
KEY_IN_FLIGHT_MAX: Final = 256
"""Messages of one key that are in flight at one time."""
TURN_MESSAGES_MAX: Final = 32
"""Messages that a key sends before the next one has its turn."""


class Entry(NamedTuple):
    """A message of a key; ``offset`` is its offset in the topic, ``again``: it was delivered before."""

    position: int
    offset: int
    message: bytes
    again: bool


@dataclass(slots=True, eq=False)
class Key:
    """A key with messages that are not settled.

    All positions in flight are lower than those in ``queue``, and all in ``queue`` ascend.

    Attributes:
        owner: id of the consumer that has what is in flight, or had it last.
        in_flight: positions in the order of delivery, which is ascending.
        failed: a heap of positions that wait in `Retries`; some may be settled meanwhile.
        wakes_at: when it is looked at again because a message that failed is due.
    """

    name: bytes
    owner: int = 0
    queue: deque[Entry] = field(default_factory=deque)
    in_flight: dict[int, None] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    wakes_at: float = -inf


@dataclass(slots=True, eq=False)
class Share:
    """What a consumer gets in one dispatch, and the room that it has left."""

    consumer: Consumer
    messages: int
    size: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """Whether one more message may be added; the last one may exceed the bound in bytes."""
        return self.messages > 0 and self.size > 0


class KeySharedDispatch(ReliableDispatch):
    """Queues messages by key. Each key is at most in one of the sets below, by what it waits for."""

    def __init__(
        self,
        cursor: Cursor,
        window: Window,
        policy: FailurePolicy = DEFAULT_POLICY,
        failures: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(SubscriptionType.KEY_SHARED, cursor, window, policy, failures)
        self._ring: KeyRing | None = None
        self._keys: dict[bytes, Key] = {}
        self._key_of: dict[int, Key] = {}
        """The key of each position in flight or failed."""
        self._ready: OrderedDict[bytes, None] = OrderedDict()
        """Keys to look at in the next dispatch."""
        self._parked: dict[int, dict[bytes, None]] = {}
        """Keys whose consumer had no room, by its id."""
        self._unmatched: dict[bytes, None] = {}
        """Keys that no consumer may have."""
        self._paused: dict[bytes, None] = {}
        """Keys that wait because a bound of the whole subscription was reached."""
        self._due: list[tuple[float, bytes]] = []
        """A heap of keys whose first message failed, by when it is due."""
        self._acked_queued = False
        """Whether messages that are queued may be acknowledged or expired."""
        self._new_left = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be read: there is a consumer, and not too many messages wait."""
        return (
            bool(self.attached)
            and self._pending_messages < KEYED_MESSAGES_MAX
            and self._pending_bytes < KEYED_BYTES_MAX
        )

    @property
    def unmatched(self) -> tuple[int, str]:
        """How many messages wait whose key no consumer may have, and one of these keys."""
        keys = [self._keys[name] for name in self._unmatched if name in self._keys]
        count = sum(len(key.queue) + len(key.failed) for key in keys)
        return count, keys[0].name.decode(errors="replace") if keys else ""

    @property
    def wake_at(self) -> float | None:
        """When `dispatch` has something to do even if nothing happens until then (monotonic seconds)."""
        check_at = self._check_at if self._in_flight.messages and self.retries.policy.ack_timeout_ms else None
        if not self._due or not self.attached:
            return check_at
        return self._due[0][0] if check_at is None else min(self._due[0][0], check_at)

    def offer(self, run: Run) -> None:
        """Queue the messages of a run by key, except what of it was acknowledged before."""
        retries = self.retries
        for first, last in self.cursor.admit(run.first, run.last):
            for position, message in run.part(first, last).entries():
                key, offset = self._key(key_of(message)), run.offset_at(position)
                if retries.unread and retries.read(position, message, offset):
                    heapq.heappush(key.failed, position)
                    self._key_of[position] = key
                else:
                    key.queue.append(Entry(position, offset, message, again=False))
                    self._pending_messages += 1
                    self._pending_bytes += len(message)

    def change_policy(self, policy: FailurePolicy, now: float) -> None:
        """Apply another failure policy from now on."""
        super().change_policy(policy, now)
        self._ready.update((name, None) for name, key in self._keys.items() if key.failed)

    def expire(self, position: int) -> None:
        """Drop every message up to ``position``: these are no longer retained."""
        super().expire(position)
        self._settle(BEFORE_ALL, position)
        self._look_at_all()

    def start_over(self, cursor: Cursor) -> None:
        """Go on at another cursor: forget every message, keep the sessions."""
        super().start_over(cursor)
        for each in (self._keys, self._key_of, self._ready, self._parked, self._unmatched, self._paused):
            each.clear()
        self._due.clear()

    # Dispatch

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now, within the rates of ``buckets``."""
        self._now = now
        if now >= self._check_at:
            self._check_timeouts(now)
        self._gather_ready(now)
        ready = self._ready
        if not ready or not self.attached:
            return []
        if self._ring is None:
            self._ring = KeyRing((each.consumer_id, each.key_filters) for each in self.attached)
        budget = min((bucket.available(now) for bucket in buckets), default=inf)
        waiting = self.waiting
        most = left = waiting if budget == inf else min(int(budget), waiting)
        self._new_left = 0 if self.retries.held_bytes >= FAILED_BYTES_MAX else max(self._room, 0)
        shares: dict[int, Share] = {}
        while ready and (left > 0 or not waiting):
            key = self._keys.get(ready.popitem(last=False)[0])
            if key is None:
                continue
            self._drop_settled(key)
            if not key.queue and not key.failed:
                if not key.in_flight:
                    del self._keys[key.name]
            elif left > 0 and (share := self._share_of(key, self._ring, shares)) is not None:
                left -= self._choose(key, share, left)
        if not self._pending_messages:
            self._acked_queued = False
        for bucket in buckets:
            bucket.take(most - left)
        return self._deliver(shares.values())

    def _gather_ready(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self._ready[heapq.heappop(self._due)[1]] = None
        if self._paused and not self.paused:
            self._ready.update(self._paused)
            self._paused.clear()
        if self._parked:
            for each in self.attached:
                if each.consumer_id in self._parked and each.has_room(self.window):
                    self._ready.update(self._parked.pop(each.consumer_id))

    def _share_of(self, key: Key, ring: KeyRing, shares: dict[int, Share]) -> Share | None:
        """Return the share of the consumer that may have more of a key now; None if the key has to wait."""
        consumer_id = ring.consumer_of(key.name)
        if consumer_id is None:
            self._unmatched[key.name] = None
            return None
        if key.in_flight and key.owner != consumer_id:
            return None
        share = shares.get(consumer_id)
        if share is None:
            consumer = self.consumers[consumer_id]
            share = shares[consumer_id] = Share(consumer, *consumer.room(self.window))
        if not share.has_room:
            self._parked.setdefault(consumer_id, {})[key.name] = None
            return None
        key.owner = consumer_id
        return share

    def _choose(self, key: Key, share: Share, left: int) -> int:
        """Add messages of a key to its consumer's share, and return how many."""
        in_flight = key.in_flight
        most = min(left, TURN_MESSAGES_MAX, KEY_IN_FLIGHT_MAX - len(in_flight))
        count = 0
        while count < most and share.has_room:
            entry = self._take(key)
            if entry is None:
                return count
            share.entries.append(entry)
            share.messages -= 1
            share.size -= len(entry.message)
            in_flight[entry.position] = None
            self._key_of[entry.position] = key
            count += 1
        if not key.queue and not key.failed:
            return count
        if not share.has_room:
            self._parked.setdefault(key.owner, {})[key.name] = None
        elif len(in_flight) < KEY_IN_FLIGHT_MAX:
            self._ready[key.name] = None
        return count

    def _take(self, key: Key) -> Entry | None:
        """Take the next message of a key; None if there is none, or the key has to wait for something."""
        self._drop_settled(key)
        queue, failed = key.queue, key.failed
        if failed and (not queue or failed[0] < queue[0].position):
            position = failed[0]
            due = self.retries.due_of(position)
            if due is None:  # blocked, or about to be dropped or dead-lettered
                return None
            if due > self._now:
                if key.wakes_at != due:
                    key.wakes_at = due
                    heapq.heappush(self._due, (due, key.name))
                return None
            heapq.heappop(failed)
            message, offset = self.retries.take_at(position)
            return Entry(position, offset, message, again=True)
        if not queue:
            return None
        entry = queue[0]
        if not entry.again:
            if self._new_left <= 0:
                self._paused[key.name] = None
                return None
            self._new_left -= 1
        self._drop_first(key)
        return entry

    def _drop_settled(self, key: Key) -> None:
        while key.failed and not self.retries.holds(key.failed[0]):
            heapq.heappop(key.failed)
        if self._acked_queued:
            while key.queue and self.cursor.is_acked(key.queue[0].position):
                self._drop_first(key)

    def _drop_first(self, key: Key) -> None:
        self._pending_messages -= 1
        self._pending_bytes -= len(key.queue.popleft().message)

    def _deliver(self, shares: Iterable[Share]) -> list[Outgoing]:
        deliveries = Deliveries()
        for share in shares:
            for again, run in _runs(sorted(share.entries)):
                for number, part in deliveries.add(share.consumer, run):
                    self._in_flight.add(part, share.consumer, number, again=again)
                if again:
                    self.redelivered += len(run)
        return deliveries.outgoing

    # What becomes of messages in flight

    def _acked(self, first: int, last: int) -> None:
        super()._acked(first, last)
        self._settle(first, last)

    def _settle(self, first: int, last: int) -> None:
        """Forget the positions ``first`` to ``last``, and let their keys go on."""
        known = self._key_of
        positions: Iterable[int] = range(first, last + 1)
        if last - first >= len(known):
            positions = [position for position in known if first <= position <= last]
        found = 0
        for position in positions:
            key = known.pop(position, None)
            if key is not None:
                found += 1
                key.in_flight.pop(position, None)
                if key.queue or key.failed:
                    self._ready[key.name] = None
                elif not key.in_flight:
                    self._keys.pop(key.name, None)
        if found <= last - first:
            self._acked_queued = True

    def _fail(
        self, first: int, last: int, now: float, *, delay_ms: int = 0, reason: str, answered: bool = False
    ) -> int:
        """Let messages in flight fail, and take back what follows them in their keys."""
        runs = self._in_flight.within(first, last)
        self._in_flight.remove(first, last, answered=answered)
        lowest: dict[Key, int] = {}
        for run in runs:
            for position, message in run.entries():
                offset = run.offset_at(position)
                self.retries.fail(position, message, now, offset=offset, requested_ms=delay_ms, reason=reason)
                key = self._key_of[position]
                del key.in_flight[position]
                heapq.heappush(key.failed, position)
                lowest.setdefault(key, position)
        for key, position in lowest.items():
            self._ready[key.name] = None
            later = [each for each in key.in_flight if each > position]
            for each in reversed(later):
                for run in self._in_flight.within(each, each):
                    self._in_flight.remove(each, each)
                    self._queue_again(run)
        return sum(map(len, runs))

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        runs = self._in_flight.take_back(consumer, received=received)
        for run in sorted(runs, key=lambda each: each.first, reverse=True):
            self._queue_again(run)

    def _queue_again(self, run: Run) -> None:
        """Queue messages that were in flight before all that waits of their keys."""
        for position, message in reversed(list(run.entries())):
            key = self._key_of.pop(position)
            del key.in_flight[position]
            key.queue.appendleft(Entry(position, run.offset_at(position), message, again=True))
            self._pending_messages += 1
            self._pending_bytes += len(message)
            self._ready[key.name] = None

    def _consumers_changed(self) -> None:
        self._ring = None
        self._look_at_all()

    def _look_at_all(self) -> None:
        self._parked.clear()
        self._unmatched.clear()
        self._ready.update(dict.fromkeys(self._keys))

    def _key(self, name: bytes) -> Key:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = Key(name)
        if not key.queue and not key.failed:
            self._ready[name] = None
        return key


def _runs(entries: list[Entry]) -> Iterator[tuple[bool, Run]]:
    """Yield runs of adjacent messages that were all sent before, or all were not."""
    start = 0
    for at in range(1, len(entries) + 1):
        before = entries[at - 1]
        if at < len(entries):
            entry = entries[at]
            if entry.position == before.position + 1 and entry.again is before.again:
                continue
        first = entries[start]
        messages = [each.message for each in entries[start:at]]
        yield first.again, Run.of(first.position, messages, first.offset)
        start = at
