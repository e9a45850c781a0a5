"""What every subscription's dispatch shares: consumers, sessions, credit, who is next.

Pure: events and time come in, deliveries go out (architecture D13). `reliable` and `non_reliable`
add what becomes of messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from danube_common.errors import LimitExceeded, NotFound, Refused
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner import Attach, SessionState
from danube_topic_owner.delivery.consumer import Consumer, Session

Message = tuple[int, bytes]
"""(position, serialized StreamMessage)."""

DELIVERY_MESSAGES_MAX = 1000
DELIVERY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery to send now."""

    gateway: str
    consumer_id: int
    session: int
    number: int
    entries: list[Message]


@dataclass(frozen=True, slots=True)
class Superseded:
    """A session that another stream of the same consumer took over."""

    gateway: str
    consumer_id: int
    session: int


class Dispatch(ABC):
    """Consumers of one subscription in the order they joined, and the choice among them."""

    def __init__(self, subscription_type: SubscriptionType, window_messages: int, window_bytes: int) -> None:
        self.subscription_type = subscription_type
        self.window_messages = window_messages
        self.window_bytes = window_bytes
        self.consumers: dict[int, Consumer] = {}
        self._joined: list[Consumer] = []
        self._next = 0

    # Consumers and sessions

    def add(self, consumer_id: int, name: str) -> Consumer:
        """Make a consumer known; idempotent."""
        return self.consumers.setdefault(consumer_id, Consumer(consumer_id, name))

    def present(self, now: float) -> list[Consumer]:
        return [consumer for consumer in self.consumers.values() if consumer.present(now)]

    @property
    def attached(self) -> list[Consumer]:
        """Consumers with a stream, in the order their streams joined."""
        return self._joined

    def expect(self, consumer_id: int, name: str, until: float) -> None:
        """A client was admitted by `check_place`: keep its place until ``until``."""
        self.add(consumer_id, name).expected_until = until

    def remove(self, consumer_id: int) -> None:
        """Forget an absent consumer."""
        self.consumers.pop(consumer_id, None)

    def attach(self, request: Attach, now: float) -> Superseded | None:
        """Open a session; the one it takes over, if any.

        Raises:
            NotFound: no such consumer.
            Refused: the exclusive place is taken, or a newer stream of this consumer is open.
        """
        consumer = self.consumers.get(request.consumer_id)
        if consumer is None:
            raise NotFound(f"consumer {request.consumer_id} does not exist")
        self.check_place(consumer.name, now)
        before = consumer.session
        if before is not None and before.session >= request.session:
            if before.session == request.session:
                self.grant(_state(request))
                return None
            raise Refused("a newer stream of this consumer is open")
        resumed = before is not None and before.session == request.resumes
        self._session_over(consumer, received=request.received if resumed else None)
        consumer.session = Session(
            request.gateway, request.session, request.messages_total, request.bytes_total
        )
        consumer.expected_until = 0.0
        if consumer not in self._joined:
            self._joined.append(consumer)
        if before is None or resumed:
            return None
        return Superseded(before.gateway, consumer.consumer_id, before.session)

    def detach(self, consumer_id: int, session: int) -> bool:
        """Close a session; False if it is not the present one."""
        consumer = self.consumers.get(consumer_id)
        if consumer is None or consumer.session is None or consumer.session.session != session:
            return False
        self._joined.remove(consumer)
        consumer.session = None
        consumer.expected_until = 0.0
        self._session_over(consumer, received=None)
        return True

    def grant(self, state: SessionState) -> bool:
        """Take in the credit's totals; False if the session is not the present one."""
        consumer = self.consumers.get(state.consumer_id)
        session = consumer.session if consumer else None
        if session is None or session.session != state.session:
            return False
        session.messages_total = max(session.messages_total, state.messages_total)
        session.bytes_total = max(session.bytes_total, state.bytes_total)
        return True

    def check_place(self, name: str, now: float) -> None:
        """Raises Refused when the subscription is exclusive and a consumer of another name is present."""
        if self.subscription_type is not SubscriptionType.EXCLUSIVE:
            return
        for other in self.consumers.values():
            if other.name != name and other.present(now):
                raise Refused(f"the subscription is exclusive and consumer {other.name!r} is connected")

    # Choice

    def _choose(self) -> Consumer | None:
        """The consumer for the next message: the active one, or the next in turn with room."""
        joined = self._joined
        if not joined:
            return None
        if self.subscription_type is not SubscriptionType.SHARED:
            active = joined[0]
            return active if active.room(self.window_messages, self.window_bytes) else None
        for step in range(len(joined)):
            turn = (self._next + step) % len(joined)
            if joined[turn].room(self.window_messages, self.window_bytes):
                self._next = turn + 1
                return joined[turn]
        return None

    # Messages

    @abstractmethod
    def offer(self, messages: list[Message]) -> None:
        """Messages read for this subscription, in order."""

    @abstractmethod
    def dispatch(self, now: float, buckets: tuple[TokenBucket, ...]) -> list[Outgoing]:
        """Everything that may be sent now, within the rates of ``buckets``."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Messages that wait for a consumer."""

    @abstractmethod
    def _session_over(self, consumer: Consumer, *, received: int | None) -> None:
        """Take back what was sent: all of it, or only what came after delivery ``received``."""


def check_limit(name: str, limit: int, present: int, what: str) -> None:
    """Raises LimitExceeded when one more would exceed ``limit`` (0: no limit)."""
    if limit and present >= limit:
        raise LimitExceeded(name, f"{name} is {limit}: {what}")


def _state(request: Attach) -> SessionState:
    return SessionState(request.consumer_id, request.session, request.messages_total, request.bytes_total)


class Batches:
    """Collects messages into one delivery per consumer and round, splitting at the bounds."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Consumer, int, list[Message], int]] = {}
        self._done: list[Outgoing] = []

    def add(self, consumer: Consumer, message: Message) -> int:
        """Add ``message`` to what goes to ``consumer``; returns its delivery's number."""
        session = consumer.session
        if session is None:
            raise ValueError("a consumer without a session was chosen")
        size = len(message[1])
        open_ = self._open.get(consumer.consumer_id)
        if open_ is not None and (
            len(open_[2]) >= DELIVERY_MESSAGES_MAX or open_[3] + size > DELIVERY_BYTES_MAX
        ):
            self._close(consumer.consumer_id)
            open_ = None
        if open_ is None:
            session.number += 1
            open_ = (consumer, session.number, [], 0)
        open_[2].append(message)
        self._open[consumer.consumer_id] = (open_[0], open_[1], open_[2], open_[3] + size)
        session.messages_sent += 1
        session.bytes_sent += size
        return open_[1]

    def _close(self, consumer_id: int) -> None:
        consumer, number, entries, _ = self._open.pop(consumer_id)
        if consumer.session is not None:
            session = consumer.session
            self._done.append(Outgoing(session.gateway, consumer_id, session.session, number, entries))

    def close(self) -> list[Outgoing]:
        for consumer_id in list(self._open):
            self._close(consumer_id)
        return self._done
