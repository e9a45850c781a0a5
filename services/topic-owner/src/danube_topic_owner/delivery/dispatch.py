"""Dispatch of one subscription: its consumers, their sessions and credit, and the choice among them.

Pure: events and the time come in, deliveries go out. `reliable` and `non_reliable` keep the messages.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from danube_common.errors import NotFound, Refused
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.delivery import Failures
from danube_common.wire.owner.sessions import Attach, SessionState
from danube_topic_owner.delivery.consumer import Consumer, Session, Window

DELIVERY_MESSAGES_MAX = 1000
DELIVERY_BYTES_MAX = 1024 * 1024
SLICE_MESSAGES_MAX = 32
"""Messages that a consumer of a shared subscription gets in one turn."""


@dataclass(slots=True)
class Outgoing:
    """One delivery to send now."""

    gateway: str
    consumer_id: int
    session: int
    number: int
    runs: list[Run]
    failures: Failures = ()
    """Set when the delivery is complete."""
    messages: int = 0
    bytes: int = 0


class Turn(NamedTuple):
    """When a consumer gets the next messages; ``place`` is its index in ``Dispatch.attached``.

    ``level`` is the number of its unacknowledged messages and of those that it has got since.
    """

    level: int
    number: int
    place: int


class Dispatch(ABC):
    """The consumers of one subscription, and the dispatch of messages to them.

    Attributes:
        consumers: all consumers by id, with or without a stream.
        attached: consumers with a stream, in the order in which their streams opened.
    """

    def __init__(self, subscription_type: SubscriptionType, window: Window) -> None:
        self.subscription_type = subscription_type
        self.window = window
        self.consumers: dict[int, Consumer] = {}
        self.attached: list[Consumer] = []
        self._next = 0

    # Consumers and sessions

    def add(self, consumer_id: int, name: str) -> Consumer:
        """Add a consumer without a stream and return it; idempotent."""
        return self.consumers.setdefault(consumer_id, Consumer(consumer_id, name))

    def present(self, now: float) -> list[Consumer]:
        """Return the consumers with a stream or an expected stream."""
        return [consumer for consumer in self.consumers.values() if consumer.present(now)]

    def expect(self, consumer_id: int, name: str, until: float) -> None:
        """Count a consumer that `check_exclusive` admitted as present until ``until`` (monotonic seconds)."""
        self.add(consumer_id, name).expected_until = until

    def filter_keys(self, consumer_id: int, filters: tuple[str, ...]) -> None:
        """Give a consumer of a key-shared subscription other filters of keys."""
        consumer = self.consumers[consumer_id]
        if consumer.key_filters != filters:
            consumer.key_filters = filters
            self._consumers_changed()

    def remove(self, consumer_id: int) -> None:
        """Remove a consumer without a stream."""
        self.consumers.pop(consumer_id, None)

    def attach(self, request: Attach, now: float) -> Session | None:
        """Open a session; return the session of another stream that it ends, if any.

        Raises:
            NotFound: the consumer does not exist.
            Refused: the subscription is exclusive and taken, a newer stream of this consumer is open, or the
                client's stream was taken over (`Consumer.check_client`).
        """
        consumer = self.consumers.get(request.consumer_id)
        if consumer is None:
            raise NotFound(f"consumer {request.consumer_id} does not exist")
        self.check_exclusive(consumer.name, now)
        consumer.check_client(request.client)
        before = consumer.session
        if before is not None and before.session >= request.session:
            if before.session == request.session:
                credit = (request.messages_total, request.bytes_total)
                self.grant(SessionState(request.consumer_id, request.session, *credit))
                return None
            raise Refused("a newer stream of this consumer is open")
        resumed = before is not None and before.session == request.resumes
        self._session_over(consumer, received=request.received if resumed else None)
        session = Session(
            request.gateway,
            request.session,
            request.messages_total,
            request.bytes_total,
            request.prefetch,
            client=request.client,
        )
        consumer.open(session)
        if consumer not in self.attached:
            self.attached.append(consumer)
            self._consumers_changed()
        return None if resumed else before

    def detach(self, consumer_id: int, session: int) -> bool:
        """Close a session; return False if it is not the present session of the consumer."""
        consumer = self.consumers.get(consumer_id)
        if consumer is None or consumer.session is None or consumer.session.session != session:
            return False
        self.attached.remove(consumer)
        consumer.close()
        self._session_over(consumer, received=None)
        self._consumers_changed()
        return True

    def grant(self, state: SessionState) -> bool:
        """Raise a session's credit to the totals of ``state``; return False if it is not the present one."""
        consumer = self.consumers.get(state.consumer_id)
        session = consumer.session if consumer else None
        if session is None or session.session != state.session:
            return False
        session.messages_total = max(session.messages_total, state.messages_total)
        session.bytes_total = max(session.bytes_total, state.bytes_total)
        return True

    def stands_by(self, consumer_id: int) -> bool:
        """Return whether a consumer with a stream gets nothing because another one is active."""
        if self.subscription_type is not SubscriptionType.FAILOVER or not self.attached:
            return False
        return self.attached[0].consumer_id != consumer_id

    def check_exclusive(self, name: str, now: float) -> None:
        """Raise Refused if the subscription is exclusive and a consumer of another name is present."""
        if self.subscription_type is not SubscriptionType.EXCLUSIVE:
            return
        for other in self.present(now):
            if other.name != name:
                raise Refused(f"the subscription is exclusive and consumer {other.name!r} is connected")

    # Messages

    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Return everything that may be sent now, within the rates of ``buckets``."""
        budget = min((bucket.available(now) for bucket in buckets), default=inf)
        left = self.waiting if budget == inf else min(int(budget), self.waiting)
        deliveries = Deliveries()
        turns = self._turns()
        sent = fair = 0
        while turns and left > 0 and (run := self._first()) is not None:
            level, _, place = turns[0]
            if len(turns) == 1:
                most = left
            else:
                if level >= fair:
                    fair = _fair_level(turns, left)
                most = min(max(fair - level, 1), left, SLICE_MESSAGES_MAX)
            consumer = self.attached[place]
            messages, size = consumer.room(self.window)
            run = run.head(min(messages, most))
            run = run.head(run.count_until(size))
            for number, part in deliveries.add(consumer, run):
                self._sent(consumer, part, number)
            count = len(run)
            sent += count
            left -= count
            self._next = place + 1
            if left <= 0:
                break
            if consumer.has_room(self.window):
                heapq.heapreplace(turns, Turn(level + count, len(self.attached) + sent, place))
            else:
                heapq.heappop(turns)
        for bucket in buckets:
            bucket.take(sent)
        return deliveries.outgoing

    def _turns(self) -> list[Turn]:
        """Return a heap of the consumers that may get the next messages.

        A shared subscription prefers who has the fewest unacknowledged messages, and among equals whose turn
        is next: a slow consumer does not hoard what a fast one could do. The others have one active consumer.
        """
        attached = self.attached if self.subscription_type is SubscriptionType.SHARED else self.attached[:1]
        turns = [
            Turn(consumer.unacked, (place - self._next) % len(attached), place)
            for place, consumer in enumerate(attached)
            if consumer.has_room(self.window)
        ]
        heapq.heapify(turns)
        return turns

    def _consumers_changed(self) -> None:  # noqa: B027 - most types have nothing to do
        """Note that a stream was opened or closed, or that a consumer has other filters."""

    @abstractmethod
    def offer(self, run: Run) -> None:
        """Take the next messages of the subscription's topic."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Messages that wait for a consumer."""

    @abstractmethod
    def _first(self) -> Run | None:
        """Return the next messages to send, which stay in the queue."""

    @abstractmethod
    def _sent(self, consumer: Consumer, run: Run, number: int) -> None:
        """Remove ``run``, the head of what `_first` returns: it is sent in delivery ``number``."""

    @abstractmethod
    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        """Take back what was sent in a session: all of it, or what came after delivery ``received``."""


def _fair_level(turns: list[Turn], messages: int) -> int:
    """Return the level to which ``messages``, dealt one by one, would raise all that are below it.

    Slices up to this level leave each consumer with as many messages as dealing one by one. It is 0 if there
    are fewer messages than consumers.
    """
    if messages < len(turns):
        return 0
    levels = sorted([turn.level for turn in turns])
    total, level = messages, 0
    for number, lowest in enumerate(levels, 1):
        total += lowest
        level = total // number
        if number < len(levels) and level <= levels[number]:
            break
    return level


class Deliveries:
    """Collects runs into deliveries, each for one consumer and within the bounds of one delivery."""

    def __init__(self) -> None:
        self.outgoing: list[Outgoing] = []
        self._open: dict[int, Outgoing] = {}
        """The delivery that is being filled, by consumer id."""

    def put(self, consumer: Consumer, runs: list[Run]) -> int:
        """Add a delivery of its own, which its caller has bounded, and return its number.

        ``runs`` are one at least, of the same bytes and back to back.
        """
        session = _session_of(consumer)
        session.number += 1
        first, last = runs[0], runs[-1]
        messages, size = last.high - first.low, last.ends[last.high - 1] - first.start
        identity = (session.gateway, consumer.consumer_id, session.session, session.number)
        self.outgoing.append(Outgoing(*identity, runs, messages=messages, bytes=size))
        session.messages_sent += messages
        session.bytes_sent += size
        return session.number

    def add(self, consumer: Consumer, run: Run) -> Iterator[tuple[int, Run]]:
        """Add a run for a consumer with a session; yield its parts with the numbers of their deliveries."""
        session = _session_of(consumer)
        outgoing = self._open.get(consumer.consumer_id)
        while len(run):
            fits = 0
            if outgoing is not None:
                fits = run.count_within(DELIVERY_BYTES_MAX - outgoing.bytes)
                fits = min(DELIVERY_MESSAGES_MAX - outgoing.messages, fits)
            if outgoing is None or fits <= 0:
                session.number += 1
                outgoing = Outgoing(
                    session.gateway, consumer.consumer_id, session.session, session.number, []
                )
                self.outgoing.append(outgoing)
                fits = max(min(DELIVERY_MESSAGES_MAX, run.count_within(DELIVERY_BYTES_MAX)), 1)
            part = run.head(fits)
            outgoing.runs.append(part)
            outgoing.messages += len(part)
            outgoing.bytes += part.size
            self._open[consumer.consumer_id] = outgoing
            session.messages_sent += len(part)
            session.bytes_sent += part.size
            yield outgoing.number, part
            if part is run:
                return
            run = run.tail(len(part))


def _session_of(consumer: Consumer) -> Session:
    if consumer.session is None:
        raise ValueError("a consumer without a session was chosen")
    return consumer.session
