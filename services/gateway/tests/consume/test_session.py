from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from danube_common.errors import Refused
from danube_common.model.bundle import Bundle
from danube_common.model.run import Run
from danube_common.wire.delivery import Delivery
from danube_gateway.consume.session import (
    CONNECTION_WINDOW_BYTES,
    REGRANT_PART,
    WINDOW_BYTES,
    WINDOW_BYTES_MIN,
    WINDOW_MESSAGES,
    Arrival,
    Session,
    window_bytes,
)

BUNDLE = Bundle.parse("f0")


def opened(*, reliable: bool = True) -> Session:
    session = Session(7, BUNDLE, 0)
    session.attach("g", 1, 1, resumes=False)
    session.attaching, session.reliable = False, reliable
    return session


def delivery(session: Session, number: int, *texts: bytes, epoch: int | None = None) -> Delivery:
    run = Run.of(1, texts)
    return Delivery(session.epoch if epoch is None else epoch, 7, session.number, number, (run,))


async def waiting(session: Session) -> list[bytes]:
    return [message for run in await session.next_batch() or [] for message in run.messages()]


async def test_deliveries_in_order_are_taken_and_others_are_not() -> None:
    session = opened()
    assert session.arrive(delivery(session, 1, b"a")) is Arrival.TAKEN
    assert session.arrive(delivery(session, 1, b"a")) is Arrival.STALE
    assert session.arrive(delivery(session, 3, b"c")) is Arrival.GAP
    assert session.arrive(delivery(session, 2, b"b")) is Arrival.TAKEN
    assert session.arrive(Delivery(1, 7, session.number + 1, 3, ())) is Arrival.STALE
    assert session.arrive(delivery(session, 3, b"c", epoch=0)) is Arrival.STALE
    assert await waiting(session) == [b"a", b"b"]
    session.close()
    assert session.arrive(delivery(session, 3, b"c")) is Arrival.STALE


async def test_resuming_keeps_what_waits_and_asks_for_the_rest() -> None:
    session = opened()
    session.arrive(delivery(session, 1, b"a"))
    session.arrive(delivery(session, 2, b"b"))
    request = session.attach("g", 5, 1, resumes=True)
    assert (request.session, request.resumes, request.received) == (5, 1, 2)
    assert request.messages_total == WINDOW_MESSAGES - 2
    assert session.arrive(delivery(session, 1, b"c")) is Arrival.TAKEN
    assert await waiting(session) == [b"a", b"b", b"c"]


def test_every_attach_names_the_prefetch() -> None:
    session = Session(1, BUNDLE, 0, prefetch=3)
    assert session.attach("g", 1, 1, resumes=False).prefetch == 3
    assert session.attach("g", 2, 1, resumes=True).prefetch == 3


async def test_another_owner_sends_again_so_what_waits_is_dropped() -> None:
    session = opened()
    session.arrive(delivery(session, 1, b"a"))
    request = session.attach("g", 5, 2, resumes=False)
    assert (request.resumes, request.received, request.messages_total) == (0, 0, WINDOW_MESSAGES)
    session.arrive(delivery(session, 1, b"a"))
    assert await waiting(session) == [b"a"]


async def test_what_waits_of_a_non_reliable_topic_is_kept_as_nobody_sends_it_again() -> None:
    session = opened(reliable=False)
    session.arrive(delivery(session, 1, b"a"))
    session.attach("g", 5, 2, resumes=False)
    session.arrive(delivery(session, 1, b"b"))
    assert await waiting(session) == [b"a", b"b"]


async def test_the_owner_that_answers_may_be_newer_than_the_one_that_was_asked() -> None:
    """Two owners use one session number: deliveries of the older epoch end when the newer epoch begins."""
    session = opened()
    assert session.arrive(delivery(session, 1, b"old", epoch=1)) is Arrival.TAKEN
    assert session.arrive(delivery(session, 1, b"new", epoch=2)) is Arrival.TAKEN
    assert session.arrive(delivery(session, 2, b"old", epoch=1)) is Arrival.STALE
    assert session.arrive(delivery(session, 2, b"newer", epoch=2)) is Arrival.TAKEN
    assert await waiting(session) == [b"new", b"newer"]


async def test_a_lost_tail_is_believed_when_it_is_said_twice() -> None:
    session = opened()
    session.arrive(delivery(session, 1, b"a"))
    assert not session.lost_tail(1)
    assert not session.lost_tail(1)
    assert not session.lost_tail(2)
    session.arrive(delivery(session, 2, b"b"))
    assert not session.lost_tail(2)
    assert not session.lost_tail(3)
    assert not session.lost_tail(4)
    assert session.lost_tail(4)
    session.attach("g", 2, 1, resumes=True)
    assert not session.lost_tail(4)


async def test_a_closed_stream_gives_what_waits_and_then_its_end() -> None:
    session = opened()
    session.arrive(delivery(session, 1, b"a"))
    session.close(Refused("taken"))
    session.close(None)
    assert await waiting(session) == [b"a"]
    assert await session.next_batch() is None
    assert isinstance(session.end, Refused)


async def test_a_waiting_reader_is_woken_by_a_delivery_and_by_the_end() -> None:
    session = opened()
    reading = asyncio.create_task(session.next_batch())
    await asyncio.sleep(0)
    session.arrive(delivery(session, 1, b"a"))
    assert [list(run.entries()) for run in await reading or []] == [[(1, b"a")]]
    reading = asyncio.create_task(session.next_batch())
    await asyncio.sleep(0)
    session.close()
    assert await reading is None


def test_credit_is_renewed_when_a_part_of_the_window_is_drained() -> None:
    session = opened()
    part = WINDOW_MESSAGES // REGRANT_PART
    session.arrive(delivery(session, 1, *[b"x"] * (2 * part)))
    assert [session.drained(1, 1) for _ in range(part)] == [False] * (part - 1) + [True]
    assert session.state().messages_total == WINDOW_MESSAGES + part
    assert not session.drained(1, 1)
    session.arrive(delivery(session, 2, bytes(WINDOW_BYTES)))
    assert session.drained(1, WINDOW_BYTES // REGRANT_PART)


async def test_messages_that_are_left_out_give_their_credit_back() -> None:
    """They were acknowledged, and an owner that was not told yet sent them again."""
    session = opened()

    class AllAcknowledged:
        def hand_out(self, _stream: object, batch: list[Run]) -> list[Run]:
            return [run for run in batch if run.first > 1]

    session.source = cast("Any", AllAcknowledged())
    session.arrive(delivery(session, 1, b"a", b"bb"))
    reading = asyncio.create_task(session.next_batch())
    await asyncio.sleep(0)
    assert not reading.done()
    state = session.state()
    assert (state.messages_total, state.bytes_total) == (WINDOW_MESSAGES + 2, WINDOW_BYTES + 3)
    session.close()
    assert await reading is None


def test_failures_go_with_their_messages_whatever_else_becomes_of_these() -> None:
    session = opened()

    class SecondAcknowledged:
        def hand_out(self, _stream: object, batch: list[Run]) -> list[Run]:
            return [part for run in batch for part in (run.head(1), run.tail(2)) if part.first != 2]

    def arrive(number: int, *failures: tuple[int, int]) -> None:
        run = Run.of(1, [b"a", b"b", b"c"])
        session.arrive(Delivery(1, 7, session.number, number, (run,), failures))

    arrive(1, (2, 1), (3, 4))
    (run,) = session.take(2, 100)
    assert session.take_failures([run]) == [(1, 1)]
    (run,) = session.take(2, 100)
    assert session.take_failures([run]) == [(0, 4)]
    session.source = cast("Any", SecondAcknowledged())
    arrive(2, (2, 2), (3, 5))
    runs = session.take(3, 100)
    assert session.take_failures(runs) == [(1, 5)]
    session.source = None
    arrive(3)
    assert session.take_failures(session.take(3, 100)) == []


@pytest.mark.parametrize(
    ("messages", "size", "taken"), [(9, 5, 2), (9, 6, 2), (2, 99, 2), (9, 7, 3), (9, 99, 4)]
)
def test_no_more_is_taken_than_messages_and_bytes_allow_but_for_the_last_message(
    messages: int, size: int, taken: int
) -> None:
    session = opened()
    runs = (Run.of(1, [b"aaa", b"bbb"]), Run.of(5, [b"ccc", b"ddd"]))
    session.arrive(Delivery(1, 7, session.number, 1, runs))
    assert sum(map(len, session.take(messages, size))) == taken
    assert sum(map(len, session.take(9, 99))) == 4 - taken


def test_what_all_streams_of_a_connection_may_hold_is_bounded() -> None:
    granted, windows = 0, []
    for _ in range(2000):
        windows.append(window_bytes(granted))
        granted += windows[-1]
    assert windows[0] == WINDOW_BYTES
    assert windows == sorted(windows, reverse=True)
    assert windows[-1] == WINDOW_BYTES_MIN
    assert granted <= CONNECTION_WINDOW_BYTES + 2000 * WINDOW_BYTES_MIN


class CreditMachine(RuleBasedStateMachine):
    """An owner that uses all its credit never overfills the gateway, whatever happens to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(7, BUNDLE, 0)
        self.in_hand: list[Run] = []
        self.totals = (0, 0)
        self.sent = (0, 0)
        self.number = 0
        self.streams = 0
        self.open(resumes=False)

    @rule(resumes=st.booleans())
    def open(self, *, resumes: bool) -> None:
        self.streams += 1
        request = self.session.attach("g", self.streams, 1, resumes=resumes)
        self.session.attaching = False
        self.totals = (request.messages_total, request.bytes_total)
        self.sent, self.number = (0, 0), 0

    @rule(size=st.sampled_from([0, 10, WINDOW_BYTES // 3, WINDOW_BYTES + 1]), part=st.floats(0.1, 1))
    def owner_sends(self, size: int, part: float) -> None:
        room = self.totals[0] - self.sent[0]
        for _ in range(int(room * part) + 1):
            if self.sent[0] >= self.totals[0] or self.sent[1] >= self.totals[1]:
                return
            self.number += 1
            arrived = self.session.arrive(
                Delivery(1, 7, self.session.number, self.number, (Run.of(1, [bytes(size)]),))
            )
            assert arrived is Arrival.TAKEN
            self.sent = (self.sent[0] + 1, self.sent[1] + size)
            if size > 10 and self.number > 3:
                return

    @rule()
    def client_takes(self) -> None:
        if not self.in_hand and self.session._queue:
            coroutine = self.session.next_batch()
            try:
                coroutine.send(None)
            except StopIteration as done:
                self.in_hand = done.value

    @rule(count=st.integers(1, 1000))
    def client_drains(self, count: int) -> None:
        for run in self.in_hand[:count]:
            self.session.drained(1, run.size)
        del self.in_hand[:count]

    @rule()
    def grant(self) -> None:
        state = self.session.state()
        assert state.session == self.session.number
        totals = (state.messages_total, state.bytes_total)
        assert totals[0] >= self.totals[0], "credit is never taken back"
        assert totals[1] >= self.totals[1]
        self.totals = totals

    @invariant()
    def the_gateway_holds_no_more_than_its_window(self) -> None:
        held = [*self.in_hand, *(run for part in self.session._queue for run in part.runs)]
        outstanding = len(held) + max(self.totals[0] - self.sent[0], 0)
        assert outstanding <= WINDOW_MESSAGES
        assert sum(run.size for run in held) <= 2 * WINDOW_BYTES + 1

    @invariant()
    def a_client_that_drains_gets_its_whole_window_again(self) -> None:
        if not self.in_hand and not self.session._queue:
            state = self.session.state()
            assert state.messages_total - self.sent[0] == WINDOW_MESSAGES
            assert state.bytes_total - self.sent[1] == WINDOW_BYTES


CreditMachine.TestCase.settings = settings(stateful_step_count=25)
TestCredit = CreditMachine.TestCase


class LimitedSessionMachine(RuleBasedStateMachine):
    """A client of credit, whose owner sends as far as it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(7, BUNDLE, 0, window_messages=20)
        self.session.limit(0, 0)
        self.granted = self.session.attach("g", 1, 1, resumes=False).messages_total
        self.session.attaching = False
        self.sent = self.taken = self.credit = self.deliveries = 0

    @rule(more=st.integers(1, 30))
    def grant(self, more: int) -> None:
        self.credit += more
        if self.session.limit(self.credit - self.taken, 1 << 30):
            self.told()

    @rule(count=st.integers(1, 30))
    def send(self, count: int) -> None:
        if (count := min(count, self.granted - self.sent)) > 0:
            self.deliveries += 1
            self.session.arrive(delivery(self.session, self.deliveries, *[b"x"] * count))
            self.sent += count

    @rule(most=st.integers(1, 30))
    def take(self, most: int) -> None:
        count = sum(map(len, self.session.take(min(most, self.credit - self.taken), 1 << 30)))
        assert count <= most
        self.taken += count
        self.session.limit(self.credit - self.taken, 1 << 30)
        if self.session.drained(count, count):
            self.told()

    @rule()
    def told(self) -> None:
        self.granted = max(self.granted, self.session.state().messages_total)

    @invariant()
    def owner_sends_no_more_than_the_client_takes(self) -> None:
        assert self.granted <= self.credit
        assert self.sent - self.taken <= 20

    @invariant()
    def owner_is_told_before_a_client_with_credit_starves(self) -> None:
        if self.credit > self.taken and self.sent == self.taken:
            assert self.granted > self.sent


TestLimitedSession = LimitedSessionMachine.TestCase
TestLimitedSession.settings = settings(stateful_step_count=30)
