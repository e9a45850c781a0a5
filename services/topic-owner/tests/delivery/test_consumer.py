from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from danube_common.errors import Refused
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.sessions import Attach
from danube_topic_owner.delivery.consumer import DISPLACED_MAX, Consumer, Session
from danube_topic_owner.delivery.non_reliable import NonReliableDispatch

CONSUMER = 7
PLENTY = 1 << 40
CLIENTS = st.sampled_from((0, 1))


def session(number: int, client: str) -> Session:
    return Session("gateway", number, PLENTY, PLENTY, client=client)


def test_a_new_connection_takes_over_and_the_old_one_cannot_take_it_back() -> None:
    consumer = Consumer(CONSUMER, "work")
    assert consumer.open(session(1, "a")) is None
    consumer.check_client("b")
    assert consumer.open(session(2, "b")) is not None
    with pytest.raises(Refused, match="'work'"):
        consumer.check_client("a")
    consumer.check_client("b")


def test_a_displaced_connection_may_come_again_when_the_stream_that_took_over_has_ended() -> None:
    consumer = Consumer(CONSUMER, "work")
    consumer.open(session(1, "a"))
    consumer.open(session(2, "b"))
    consumer.close()
    consumer.check_client("a")


def test_connections_that_are_not_known_are_never_refused() -> None:
    consumer = Consumer(CONSUMER, "work")
    for number in range(4):
        consumer.check_client("")
        consumer.open(session(number, ""))


def test_displaced_connections_are_bounded() -> None:
    consumer = Consumer(CONSUMER, "work")
    for number in range(DISPLACED_MAX + 10):
        consumer.open(session(number, f"connection {number}"))
    assert len(consumer.displaced) == DISPLACED_MAX
    with pytest.raises(Refused):
        consumer.check_client(f"connection {DISPLACED_MAX + 8}")


@dataclass
class Client:
    """A client that subscribes again each time its stream ends, as fast as it can."""

    connection: int = 0
    session: int = 0
    """Of the stream that the client believes to be open; 0 if it has none."""


class TwoClientsOfOneName(RuleBasedStateMachine):
    """Two clients connect, vanish and fight for one consumer name."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatch = NonReliableDispatch(SubscriptionType.SHARED)
        self.dispatch.add(CONSUMER, "work")
        self.clients = (Client(), Client())
        self.numbers = itertools.count(1)
        self.take_overs = 0
        self.came = 0
        """How often a client came anew: on a new connection, or after it had closed its stream itself."""

    def attach(self, number: int, gateway: str = "gateway") -> None:
        client = self.clients[number]
        session = next(self.numbers)
        name = f"client {number}, connection {client.connection}"
        before = self.dispatch.attach(
            Attach(CONSUMER, gateway, session, PLENTY, PLENTY, client=name), now=0.0
        )
        client.session = session
        if before is not None and before.client != name:
            self.take_overs += 1
            other = self.clients[1 - number]
            if other.session == before.session:
                other.session = 0  # its stream has ended

    @rule(number=CLIENTS)
    def connect(self, number: int) -> None:
        """A new process, or a client that lost its network and whose old stream the server may still hold."""
        self.clients[number].connection += 1
        self.came += 1
        self.attach(number)

    @precondition(lambda self: any(each.connection and not each.session for each in self.clients))
    @rule(tries=st.integers(1, 5))
    def fight(self, tries: int) -> None:
        """Whoever has lost its stream tries to have it back on the same connection."""
        for _ in range(tries):
            for number, client in enumerate(self.clients):
                if client.connection and not client.session:
                    with contextlib.suppress(Refused):
                        self.attach(number)

    @rule(number=CLIENTS)
    def leave(self, number: int) -> None:
        """The client closes its stream and keeps its connection."""
        client = self.clients[number]
        if client.session:
            self.dispatch.detach(CONSUMER, client.session)
            client.session = 0
            self.came += 1

    @rule(number=CLIENTS)
    def attach_again(self, number: int) -> None:
        """The gateway of a client attaches the stream again after lost deliveries, or without a notice."""
        if self.clients[number].connection:
            with contextlib.suppress(Refused):
                self.attach(number)

    @invariant()
    def every_take_over_needs_a_client_that_came_anew(self) -> None:
        assert self.take_overs <= self.came

    @invariant()
    def at_most_one_stream_is_open(self) -> None:
        assert sum(bool(each.session) for each in self.clients) <= 1
        assert len(self.dispatch.attached) <= 1


def test_two_clients_of_one_name_take_over_no_more_often_than_they_come_anew() -> None:
    run_state_machine_as_test(TwoClientsOfOneName)
