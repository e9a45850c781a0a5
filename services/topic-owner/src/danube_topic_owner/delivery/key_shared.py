"""Key-shared dispatch: the messages of one key go to one consumer, in order. Pure.

A key has several messages in flight at a time, all at one consumer. Per key:

- Messages are sent in the order of their positions. One that failed holds back those that follow it, and
  those that were delivered already come again after it is acknowledged. Other keys go on.
- If consumers come or go, a key moves when nothing of it is in flight at its old consumer any more.
- A key that no consumer may have waits.

Messages whose key waits for nothing of its own are in the lane of their consumer, in the order of the log.
The others are in the queue of their key. The order among keys does not count
(docs/adr/0037-a-key-waits-and-never-loses.md).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final

from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.position import BEFORE_ALL
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.delivery.consumer import Consumer, Window
from danube_topic_owner.delivery.dispatch import Deliveries, Outgoing
from danube_topic_owner.delivery.in_flight import Held
from danube_topic_owner.delivery.key_ring import KeyRing, keys_of
from danube_topic_owner.delivery.keyed_flight import Entry, Key, KeyedFlight
from danube_topic_owner.delivery.keyed_share import Share, deliverable, runs_of
from danube_topic_owner.delivery.reliable import DEFAULT_POLICY, FAILED_BYTES_MAX, ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor, Span

KEYED_MESSAGES_MAX: Final = 20_000
"""Messages that were read and wait. At the bound nothing more is read: keys that cannot go hold up the others
only then."""
KEYED_BYTES_MAX: Final = 32 * 1024 * 1024
"""The same in bytes."""
KEY_IN_FLIGHT_MAX: Final = 256
"""Messages of one key that are in flight at one time."""
TURN_MESSAGES_MAX: Final = 32
"""Messages that a key sends before the next one has its turn."""


class KeySharedDispatch(ReliableDispatch):
    """Queues messages by key. Each key is at most in one of the sets below, by what its queue waits for."""

    def __init__(
        self,
        cursor: Cursor,
        window: Window,
        policy: FailurePolicy = DEFAULT_POLICY,
        failures: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(SubscriptionType.KEY_SHARED, cursor, window, policy, failures)
        self._ring: KeyRing | None = None
        self._flight = KeyedFlight()
        self._keys: dict[bytes, Key] = {}
        self._failed_keys: dict[int, Key] = {}
        """The key of each position that failed."""
        self._lanes: dict[int, deque[Entry]] = {}
        """Messages that wait for room at their consumer only, by its id; none was delivered before."""
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
        self._unstored: dict[bytes, None] = {}
        """Keys whose first message is due, and waits until its failure is journaled."""
        self._acked_queued = False
        """Whether messages that are queued may be acknowledged or expired."""
        self._new_left = 0
        self._lanes_first = False
        """Whether lanes have their turn before keys, as they do every other time."""

    @property
    def has_room(self) -> bool:
        """Whether more may be read: there is a consumer, and not too many messages wait."""
        return (
            bool(self.attached)
            and self._pending_messages < KEYED_MESSAGES_MAX
            and self._pending_bytes < KEYED_BYTES_MAX
        )

    @property
    def unacked(self) -> int:
        """Messages that were delivered and are not acknowledged."""
        return len(self._flight)

    @property
    def unmatched(self) -> tuple[int, str]:
        """How many messages wait whose key no consumer may have, and one of these keys."""
        keys = [self._keys[name] for name in self._unmatched if name in self._keys]
        count = sum(len(key.queue) + len(key.failed) for key in keys)
        return count, keys[0].name.decode(errors="replace") if keys else ""

    @property
    def wake_at(self) -> float | None:
        """When `dispatch` has something to do even if nothing happens until then (monotonic seconds)."""
        check_at = self._check_at if self.unacked and self.retries.policy.ack_timeout_ms else None
        if not self._due or not self.attached:
            return check_at
        return self._due[0][0] if check_at is None else min(self._due[0][0], check_at)

    def offer(self, run: Run) -> None:
        """Queue the messages of a run, except what of it was acknowledged before."""
        keys, ring = self._keys, self._present_ring()
        some_failed = self.retries.unread > 0
        for first, last in self.cursor.admit(run.first, run.last):
            part = run.part(first, last)
            self._pending_messages += len(part)
            self._pending_bytes += part.size
            shift = part.offset - first
            messages = part.messages()
            for position, (message, name) in enumerate(zip(messages, keys_of(messages), strict=True), first):
                if (key := keys.get(name)) is None:
                    key = keys[name] = Key(name)
                if some_failed and self.retries.read(position, message, position + shift):
                    self._pending_messages -= 1
                    self._pending_bytes -= len(message)
                    self._note_failed(key, position)
                    continue
                entry = (position, shift, message, key, False)
                lane = key.lane
                if not key.laned and (lane is None or key.queue or key.failed):
                    lane = self._lane_of(key, ring)
                if lane is None:
                    self._wait(key, entry)
                else:
                    key.laned += 1
                    lane.append(entry)

    def _present_ring(self) -> KeyRing:
        if self._ring is None:
            self._ring = KeyRing((each.consumer_id, each.key_filters) for each in self.attached)
        return self._ring

    def _lane_of(self, key: Key, ring: KeyRing) -> deque[Entry] | None:
        """Return where the next message of a key that has none in a lane waits for its consumer only."""
        if key.queue or key.failed:
            return None
        if key.lane is None and (consumer_id := ring.consumer_of(key.name)) is not None:
            if key.owner != consumer_id:
                if key.in_flight:
                    return None
                key.owner = consumer_id
            key.lane = self._lanes.setdefault(consumer_id, deque())
        return key.lane

    def _wait(self, key: Key, entry: Entry) -> None:
        """Put a message behind all that waits of its key."""
        if not key.queue and not key.failed:
            self._ready[key.name] = None
        key.queue.append(entry)

    def _note_failed(self, key: Key, position: int) -> None:
        self._ready[key.name] = None
        self._failed_keys[position] = key
        heapq.heappush(key.failed, position)

    def change_policy(self, policy: FailurePolicy, now: float) -> None:
        """Apply another failure policy from now on."""
        super().change_policy(policy, now)
        self._ready.update((name, None) for name, key in self._keys.items() if key.failed)

    def failures_stored(self) -> bool:
        """Note that the failures that were journaled last are stored; return whether there were any."""
        self._ready.update(self._unstored)
        self._unstored.clear()
        return super().failures_stored()

    def expire(self, position: int) -> None:
        """Drop every message up to ``position``: these are no longer retained."""
        super().expire(position)
        self._settle([(BEFORE_ALL, position)])
        self._look_at_all()

    def start_over(self, cursor: Cursor) -> None:
        """Go on at another cursor: forget every message, keep the sessions."""
        super().start_over(cursor)
        self._flight.clear()
        for each in (
            *(self._keys, self._failed_keys, self._lanes),
            *(self._ready, self._parked, self._unmatched, self._paused, self._unstored),
        ):
            each.clear()
        self._due.clear()

    # Dispatch

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now, within the rates of ``buckets``."""
        self._now = now
        if now >= self._check_at:
            self._check_timeouts(now)
        if not self.attached:
            return []
        self._gather_ready(now)
        budget = min((bucket.available(now) for bucket in buckets), default=inf)
        waiting = self.waiting
        most = waiting if budget == inf else min(int(budget), waiting)
        self._new_left = 0 if self.retries.held_bytes >= FAILED_BYTES_MAX else max(self._room, 0)
        shares: dict[int, Share] = {}
        self._lanes_first = not self._lanes_first
        left = self._empty_lanes(shares, most) if self._lanes_first else most
        left = self._serve_ready(shares, left)
        if not self._lanes_first:
            left = self._empty_lanes(shares, left)
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

    def _empty_lanes(self, shares: dict[int, Share], left: int) -> int:
        """Add what waits in lanes to its consumers' shares; return what is left of so many messages."""
        for consumer_id, lane in self._lanes.items():
            if lane and left > 0 and self._new_left > 0:
                share = self._share_of(consumer_id, shares)
                count = self._empty_lane(lane, share, min(share.messages, left, self._new_left))
                share.messages -= count
                self._new_left -= count
                left -= count
        return left

    def _empty_lane(self, lane: deque[Entry], share: Share, most: int) -> int:
        """Add at most so many messages to a share, and return how many."""
        entries, size, acked_queued, passed = share.entries, share.size, self._acked_queued, 0
        before = len(entries)
        room = most
        take, in_flight_max = lane.popleft, KEY_IN_FLIGHT_MAX
        while room > 0 and size > 0 and lane:
            entry = take()
            position, _, message, key, _ = entry
            key.laned -= 1
            in_flight = key.in_flight
            if acked_queued and self.cursor.is_acked(position):
                passed += len(message)
                self._pending_messages -= 1
                if key.is_idle:
                    del self._keys[key.name]
            elif key.queue or key.failed or key.tried in in_flight or len(in_flight) >= in_flight_max:
                key.queue.append(entry)  # whoever lets the key go on looks there
            else:
                in_flight[position] = None
                entries.append(entry)
                size -= len(message)
                room -= 1
        count = most - room
        self._pending_messages -= count
        self._pending_bytes -= passed + share.size - size
        share.size = size
        return len(entries) - before

    def _serve_ready(self, shares: dict[int, Share], left: int) -> int:
        """Add messages of the keys that are ready; return what is left of so many messages."""
        ready, ring, waiting = self._ready, self._present_ring(), self.waiting
        while ready and (left > 0 or not waiting):
            key = self._keys.get(ready.popitem(last=False)[0])
            if key is None:
                continue
            self._drop_settled(key)
            if not key.queue and not key.failed:
                if key.is_idle:
                    del self._keys[key.name]
            elif left > 0 and (share := self._share_of_key(key, ring, shares)) is not None:
                left -= self._choose(key, share, left)
        return left

    def _share_of(self, consumer_id: int, shares: dict[int, Share]) -> Share:
        share = shares.get(consumer_id)
        if share is None:
            consumer = self.consumers[consumer_id]
            share = shares[consumer_id] = Share(consumer, *consumer.room(self.window))
        return share

    def _share_of_key(self, key: Key, ring: KeyRing, shares: dict[int, Share]) -> Share | None:
        """Return the share of the consumer that may have more of a key now; None if the key has to wait."""
        consumer_id = ring.consumer_of(key.name)
        if consumer_id is None:
            self._unmatched[key.name] = None
            return None
        if key.in_flight and key.owner != consumer_id:
            return None
        share = self._share_of(consumer_id, shares)
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
        while count < most and share.has_room and not key.is_tried:
            entry = self._take(key)
            if entry is None:
                return count
            share.entries.append(entry)
            share.messages -= 1
            share.size -= len(entry[2])
            in_flight[entry[0]] = None
            count += 1
        if not key.queue and not key.failed:
            return count
        if not share.has_room:
            self._parked.setdefault(key.owner, {})[key.name] = None
        elif len(in_flight) < KEY_IN_FLIGHT_MAX and not key.is_tried:
            self._ready[key.name] = None
        return count

    def _take(self, key: Key) -> Entry | None:
        """Take the next message of a key; None if there is none, or the key has to wait for something."""
        self._drop_settled(key)
        queue, failed = key.queue, key.failed
        if failed and (not queue or failed[0] < queue[0][0]):
            position = failed[0]
            due = self.retries.due_of(position)
            if due is None:  # blocked, or about to be dropped or dead-lettered
                return None
            if due > self._now:
                if key.wakes_at != due:
                    key.wakes_at = due
                    heapq.heappush(self._due, (due, key.name))
                return None
            if not self.retries.is_stored(position):
                self._unstored[key.name] = None
                return None
            heapq.heappop(failed)
            message, offset = self.retries.take_at(position)
            self._failed_keys.pop(position, None)
            key.tried = position
            return position, offset - position, message, key, True
        if not queue:
            return None
        entry = queue[0]
        if not entry[4]:
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
            while key.queue and self.cursor.is_acked(key.queue[0][0]):
                self._drop_first(key)

    def _drop_first(self, key: Key) -> None:
        self._pending_messages -= 1
        self._pending_bytes -= len(key.queue.popleft()[2])

    def _deliver(self, shares: Iterable[Share]) -> list[Outgoing]:
        deliveries = Deliveries()
        for share in shares:
            for entries in deliverable(sorted(share.entries)):
                again = [entry for entry in entries if entry[4]]
                self.redelivered += len(again)
                number = deliveries.put(share.consumer, runs_of(entries))
                new = [entry for entry in entries if not entry[4]] if again else entries
                self._flight.add(share.consumer, number, again, again=True)
                self._flight.add(share.consumer, number, new, again=False)
        return deliveries.outgoing

    # What becomes of messages in flight

    def _acked(self, spans: list[Span]) -> None:
        self._settle(spans, answered=True)

    def _settle(self, spans: Sequence[tuple[int, int]], *, answered: bool = False) -> None:
        """Forget spans of positions, and let their keys go on."""
        removed = self._flight.remove(spans, answered=answered)
        keys, ready = self._keys, self._ready
        for position, _, _, key, _ in removed:
            in_flight = key.in_flight
            del in_flight[position]
            if key.queue or key.failed:
                ready[key.name] = None
            elif not in_flight and not key.laned:
                del keys[key.name]
        if len(removed) == sum([last - first + 1 for first, last in spans]):
            return
        self._acked_queued = True
        known = self._failed_keys
        for first, last in spans if known else ():
            for position in [each for each in known if first <= each <= last]:
                self._go_on(known.pop(position))

    def _go_on(self, key: Key) -> None:
        if key.queue or key.failed:
            self._ready[key.name] = None
        elif not key.in_flight and not key.laned:
            self._keys.pop(key.name, None)

    def _fail(
        self, first: int, last: int, now: float, *, delay_ms: int = 0, reason: str, answered: bool = False
    ) -> int:
        """Let messages in flight fail, and take back what follows them in their keys."""
        entries = self._flight.remove([(first, last)], answered=answered)
        lowest: dict[Key, int] = {}
        for position, shift, message, key, _ in entries:
            offset = position + shift
            self.retries.fail(position, message, now, offset=offset, requested_ms=delay_ms, reason=reason)
            del key.in_flight[position]
            self._note_failed(key, position)
            lowest.setdefault(key, position)
        for key, position in lowest.items():
            behind = [(each, each) for each in key.in_flight if each > position]
            self._queue_first(self._flight.remove(behind))
        return len(entries)

    def _held_by(self, consumer: Consumer) -> list[Held]:
        return self._flight.held_by(consumer)

    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        self._queue_first(self._flight.take_back(consumer, received=received))

    def _queue_first(self, entries: Sequence[Entry]) -> None:
        """Queue messages that were in flight before all that waits of their keys."""
        for position, shift, message, key, _ in reversed(entries):
            del key.in_flight[position]
            key.queue.appendleft((position, shift, message, key, True))
            self._pending_messages += 1
            self._pending_bytes += len(message)
            self._ready[key.name] = None

    def _consumers_changed(self) -> None:
        self._ring = None
        for key in self._keys.values():
            key.lane = None
        for lane in self._lanes.values():
            for entry in lane:
                key = entry[3]
                key.laned -= 1
                key.queue.append(entry)
        self._lanes.clear()
        self._look_at_all()

    def _look_at_all(self) -> None:
        self._parked.clear()
        self._unmatched.clear()
        self._ready.update(dict.fromkeys(self._keys))
