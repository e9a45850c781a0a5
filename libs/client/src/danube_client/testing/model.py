"""Topics, subscriptions and who gets which message: the platform as a pure model, without clock and I/O."""

from __future__ import annotations

import fnmatch
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from danube_client.consumer import SubscriptionType
from danube_client.errors import InvalidRequest, SubscribeDenied
from danube_client.failure_policy import FailurePolicy, Poison
from danube_client.schema import Schema
from danube_client.start import StartKind

UNLIMITED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a topic: its serialized form, its key, and when it was stored."""

    data: bytes
    key: str
    stored_ms: int


@dataclass(slots=True)
class Credit:
    """What the stream of a consumer may still be sent, for all its topics together."""

    messages_total: int = 0
    bytes_total: int = 0
    messages: int = 0
    bytes: int = 0
    paused: bool = False

    def left(self) -> int:
        """Return how many messages may be sent."""
        if self.paused or self.bytes >= self.bytes_total:
            return 0
        return self.messages_total - self.messages


@dataclass(slots=True, eq=False)
class Member:
    """A consumer of one subscription of one topic.

    Attributes:
        held: positions that it has and has not acknowledged.
    """

    name: str
    credit: Credit
    prefetch: int = 0
    key_filters: tuple[str, ...] = ()
    held: set[int] = field(default_factory=set)

    def has_room(self) -> bool:
        """Whether it takes another message."""
        return self.credit.left() > 0 and len(self.held) < (self.prefetch or UNLIMITED)

    def wants(self, key: str) -> bool:
        """Whether its filters let a key through."""
        return not self.key_filters or any(fnmatch.fnmatchcase(key, glob) for glob in self.key_filters)


class Topic:
    """A topic or partition. Positions begin at 1 and follow one another.

    Attributes:
        sequences: the last sequence of each idempotent producer.
    """

    def __init__(self, name: str, topic_id: int, schema: Schema, *, reliable: bool) -> None:
        self.name = name
        self.topic_id = topic_id
        self.schema = schema
        self.reliable = reliable
        self.messages: list[Stored] = []
        self.sequences: dict[str, int] = {}
        self.subscriptions: dict[str, Subscription] = {}

    @property
    def end(self) -> int:
        """The position of the next message."""
        return len(self.messages) + 1

    def at(self, position: int) -> Stored:
        """Return the message at a position."""
        return self.messages[position - 1]

    def append(self, stored: Stored) -> int:
        """Store a message and return its position."""
        position = self.end
        self.messages.append(stored)
        for subscription in self.subscriptions.values():
            subscription.add(position)
        return position

    def first(self, kind: StartKind, value: int) -> int:
        """Return the position at which a start lies; a non-reliable topic has no past."""
        if not self.reliable:
            return self.end
        match kind:
            case StartKind.LATEST:
                return self.end
            case StartKind.POSITION:
                return value
            case StartKind.LAST:
                return max(1, self.end - value)
            case StartKind.TIME:
                times = (stored.stored_ms for stored in self.messages)
                return next((at for at, when in enumerate(times, 1) if when >= value), self.end)
            case StartKind.EARLIEST:
                return 1

    def subscribe(self, name: str, type_: SubscriptionType, kind: StartKind, value: int) -> bool:
        """Create a subscription if it is missing; return whether it is new."""
        if name in self.subscriptions:
            return False
        self.subscriptions[name] = Subscription(self, type_)
        self.subscriptions[name].seek(kind, value)
        return True


class Subscription:
    """A subscription of one topic: what waits, and who has what.

    Attributes:
        failures: of each message that is not acknowledged, how many of its deliveries failed.
        policy: None until one is set: what fails comes again at once, however often.
        blocked: positions of poison that is kept.
    """

    def __init__(self, topic: Topic, type_: SubscriptionType) -> None:
        self.type = type_
        self.members: list[Member] = []
        self.failures: dict[int, int] = {}
        self.policy: FailurePolicy | None = None
        self.blocked: set[int] = set()
        self._topic = topic
        self._waiting: list[int] = []
        self._delayed: list[tuple[float, int]] = []

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a consumer."""
        return not self._waiting

    def add(self, position: int) -> None:
        """A message was published."""
        if self._topic.reliable or self.members:
            heapq.heappush(self._waiting, position)

    def join(self, member: Member) -> Member | None:
        """Take a consumer; return the earlier one of its name, which it replaces.

        Raises:
            SubscribeDenied: the subscription is exclusive and has one.
        """
        earlier = next((other for other in self.members if other.name == member.name), None)
        if earlier is not None:
            self.leave(earlier)
        elif self.members and self.type is SubscriptionType.EXCLUSIVE:
            raise SubscribeDenied("PERMISSION_DENIED", "the exclusive subscription has a consumer already")
        self.members.append(member)
        return earlier

    def leave(self, member: Member) -> None:
        """A consumer is gone: what it had waits again."""
        if member in self.members:
            self.members.remove(member)
            self._return(member, member.held.copy())

    def ack(self, member: Member, ranges: Iterable[tuple[int, int]]) -> None:
        """Acknowledge what a consumer has of these positions; raises nothing for others."""
        for position in _within(member.held, ranges):
            member.held.discard(position)
            self.failures.pop(position, None)

    def ack_cumulative(self, member: Member, position: int) -> None:
        """Acknowledge all that a consumer has up to a position.

        Raises:
            InvalidRequest: the subscription shares its messages.
        """
        if self.type in (SubscriptionType.SHARED, SubscriptionType.KEY_SHARED):
            raise InvalidRequest(
                "INVALID_ARGUMENT", "a shared subscription has no cumulative acknowledgement"
            )
        self.ack(member, [(1, position)])

    def nack(
        self, member: Member, ranges: Iterable[tuple[int, int]], now_s: float, delay_s: float
    ) -> tuple[list[int], float]:
        """Take messages back; return those that are poison, and when the last of the others is due."""
        poison = []
        last_s = now_s
        for position in _within(member.held, ranges):
            member.held.discard(position)
            failures = self.failures[position] = self.failures.get(position, 0) + 1
            if self.policy is not None and self.policy.is_poison(failures):
                poison.append(position)
                continue
            wait_s = delay_s if self.policy is None else self.policy.delay_s(failures, delay_s)
            heapq.heappush(self._delayed, (now_s + wait_s, position))
            last_s = max(last_s, now_s + wait_s)
        return poison, last_s

    def settle(self, poison: Iterable[int]) -> list[int]:
        """Block, drop or give up poison by the policy; return what belongs into the dead-letter topic."""
        dead = []
        for position in poison:
            if self.policy is None or self.policy.poison is Poison.BLOCK:
                self.blocked.add(position)
            elif self.policy.poison is Poison.DEAD_LETTER:
                dead.append(position)
            else:
                self.failures.pop(position, None)
        return dead

    def set_policy(self, policy: FailurePolicy) -> list[int]:
        """Take a policy, which also decides on what is blocked; return the new dead letters."""
        self.policy = policy
        blocked, self.blocked = sorted(self.blocked), set()
        for position in blocked:
            if not policy.is_poison(self.failures[position]):
                heapq.heappush(self._waiting, position)
        return self.settle(position for position in blocked if policy.is_poison(self.failures[position]))

    def seek(self, kind: StartKind, value: int) -> None:
        """Go on at another position."""
        for member in self.members:
            member.held.clear()
        self.failures.clear()
        self.blocked.clear()
        self._delayed.clear()
        self._waiting = list(range(self._topic.first(kind, value), self._topic.end))

    def deliver(self, now_s: float) -> Iterator[tuple[Member, int]]:
        """Give what waits to consumers that have room: who gets which position."""
        while self._delayed and self._delayed[0][0] <= now_s:
            heapq.heappush(self._waiting, heapq.heappop(self._delayed)[1])
        passed: list[int] = []
        held_up = {self._topic.at(position).key for position in self.blocked}
        if held_up and self.type in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER):
            return
        while self._waiting:
            position = self._waiting[0]
            key = self._topic.at(position).key
            keyed = self.type is SubscriptionType.KEY_SHARED
            member = None if keyed and key in held_up else self._chosen(key)
            if member is None and not keyed:
                break
            heapq.heappop(self._waiting)
            if member is None:
                held_up.add(key)
                passed.append(position)
                continue
            member.credit.messages += 1
            member.credit.bytes += len(self._topic.at(position).data)
            if self._topic.reliable:
                member.held.add(position)
            yield member, position
        if self._topic.reliable:
            for position in passed:
                heapq.heappush(self._waiting, position)
        else:
            self._waiting.clear()  # nobody had room for it

    def _chosen(self, key: str) -> Member | None:
        if self.type in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER):
            able = self.members[:1]
        elif self.type is SubscriptionType.KEY_SHARED:
            at = self._topic.at
            able = [one for one in self.members if any(at(position).key == key for position in one.held)]
            able = able or [one for one in self.members if one.wants(key)]
        else:
            able = self.members
        return min((one for one in able if one.has_room()), key=lambda one: len(one.held), default=None)

    def _return(self, member: Member, positions: Iterable[int]) -> None:
        for position in positions:
            member.held.discard(position)
            heapq.heappush(self._waiting, position)


def _within(held: set[int], ranges: Iterable[tuple[int, int]]) -> list[int]:
    spans = list(ranges)
    return sorted(position for position in held if any(low <= position <= high for low, high in spans))
