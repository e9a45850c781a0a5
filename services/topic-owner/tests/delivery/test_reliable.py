from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from danube_common.errors import NotFound, Refused
from danube_common.model.failure_policy import BackoffStrategy, FailurePolicy, PoisonPolicy
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import COPY_BELOW, Run
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.sessions import Attach, SessionState
from danube_topic_owner.delivery import reliable as reliable_module
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.delivery.dispatch import (
    DELIVERY_BYTES_MAX,
    DELIVERY_MESSAGES_MAX,
    Outgoing,
)
from danube_topic_owner.delivery.reliable import PENDING_MESSAGES_MAX, ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor

WINDOW_MESSAGES = 5
WINDOW_BYTES = 60
NAMES = {1: "anna", 2: "bert", 3: "carl"}
KINDS = [each for each in SubscriptionType if each is not SubscriptionType.KEY_SHARED]
CONSUMERS = st.sampled_from(list(NAMES))
PLENTY = 1 << 40
SIZES = st.sampled_from([0, 0, 0, 10, 10, 20, 90])
POLICIES = st.builds(
    FailurePolicy,
    max_redelivery_count=st.integers(0, 2),
    ack_timeout_ms=st.just(0),
    base_redelivery_delay_ms=st.sampled_from([0, 1000]),
    max_redelivery_delay_ms=st.just(3000),
    backoff_strategy=st.sampled_from(BackoffStrategy),
    poison_policy=st.sampled_from(PoisonPolicy),
)
CREDIT = st.tuples(st.sampled_from([0, 3, 20, 20]), st.sampled_from([0, 10, 20, 500, 500]))


class Stream:
    """A consumer's session as its gateway sees it."""

    def __init__(self, consumer_id: int, session: int, messages: int, size: int) -> None:
        self.consumer_id = consumer_id
        self.session = session
        self.credit = [messages, size]
        self.sent = [0, 0]
        self.numbers: dict[int, list[int]] = {}


class DispatchMachine(RuleBasedStateMachine):
    """Dispatch beside a model: who holds what, in which delivery, what is acknowledged, and what failed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.last = 0
        self.session = 0
        self.data: dict[int, bytes] = {}
        self.acked: set[int] = set()
        self.holders: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        self.joined: list[int] = []
        self.failures: Counter[int] = Counter()
        self.unstored: set[int] = set()
        """Of the messages that failed, those whose failure is not journaled."""
        self.due: dict[int, float] = {}
        """Of the messages that failed and were not sent again."""
        self.returned: set[int] = set()
        """Messages that were sent before and did not fail."""

    @initialize(kind=st.sampled_from(KINDS), policy=POLICIES, consumers=st.sampled_from([0, 1, 1, 2]))
    def begin(self, kind: SubscriptionType, policy: FailurePolicy, consumers: int) -> None:
        self.kind, self.policy = kind, policy
        self.dispatch = ReliableDispatch(kind, Cursor(0), Window(WINDOW_MESSAGES, WINDOW_BYTES), policy)
        for consumer_id, name in NAMES.items():
            self.dispatch.add(consumer_id, name)
        for consumer_id in list(NAMES)[: min(consumers, 1 if kind is SubscriptionType.EXCLUSIVE else 2)]:
            self.attach(consumer_id, (100, 1000), "new", 0)
        if consumers:
            self.offer([0] * 8, 0)
            self.send(0, 0.0)

    # What happens

    @rule(sizes=st.lists(SIZES, max_size=8), gap=st.integers(0, 3))
    def offer(self, sizes: list[int], gap: int) -> None:
        first = self.last = self.last + gap + 1
        for size in sizes:
            self.data[self.last] = bytes([self.last % 256]) * size
            self.last += 1
        self.last -= 1
        if sizes:
            self.dispatch.offer(self.run(first, self.last))

    def run(self, first: int, last: int) -> Run:
        return Run.of(first, [self.data[position] for position in range(first, last + 1)])

    @rule()
    def offer_again(self) -> None:
        """LogCatchUp and live feed overlap."""
        for position in list(self.data)[-4:]:
            self.dispatch.offer(self.run(position, position))

    @rule(data=st.data())
    def ack_held(self, data: st.DataObject) -> None:
        if self.holders:
            self.ack(data.draw(st.lists(st.sampled_from(sorted(self.holders)), min_size=1, max_size=4)))

    @rule(positions=st.lists(st.integers(-1, 60), max_size=3), count=st.sampled_from([1, 1, 2, 5]))
    def ack_anything(self, positions: list[int], count: int) -> None:
        self.ack(positions, count)

    def ack(self, positions: list[int], count: int = 1) -> None:
        named = {p + more for p in positions for more in range(count)}
        new = {p for p in named if p <= self.last and not self.dispatch.cursor.is_acked(p)}
        spans = [(p, p + count - 1) for p in positions]
        assert self.dispatch.ack(spans, self.last) is bool(new)
        self.acked |= new
        self.returned -= new
        for position in new:
            self.holders.pop(position, None)
            self.due.pop(position, None)

    @rule(data=st.data(), delay_ms=st.sampled_from([0, 2000, 9000]))
    def nack_held(self, data: st.DataObject, delay_ms: int) -> None:
        if self.holders:
            self.nack(data.draw(st.sampled_from(sorted(self.holders))), 1, delay_ms)

    @rule(first=st.integers(1, 60), count=st.sampled_from([1, 3, 60]))
    def nack_anything(self, first: int, count: int) -> None:
        """What is not in flight is not touched."""
        self.nack(first, count, 0)

    def nack(self, first: int, count: int, delay_ms: int) -> None:
        last = first + count - 1
        self.dispatch.nack(first, last, self.now, delay_ms=delay_ms, reason="why")
        for position in [p for p in self.holders if first <= p <= last]:
            del self.holders[position]
            self.failures[position] += 1
            self.unstored.add(position)
            wait_ms = max(self.policy.delay_ms(self.failures[position]), min(delay_ms, 3000))
            self.due[position] = self.now + wait_ms / 1000

    @rule(policy=POLICIES)
    def change_policy(self, policy: FailurePolicy) -> None:
        self.dispatch.change_policy(policy, self.now)
        self.policy = policy
        self.due = {p: min(due, self.now + 3) for p, due in self.due.items()}

    @rule()
    def drop_what_is_dead(self) -> None:
        dead = {message.position for message in self.dispatch.retries.dead}
        assert dead == (set() if self.policy.poison_policy is PoisonPolicy.BLOCK else self.poison())
        if dead:
            self.ack(sorted(dead))

    def poison(self) -> set[int]:
        return {p for p in self.due if self.policy.is_poison(self.failures[p])}

    def to_send(self) -> list[int]:
        """What may be sent now, in the order in which it is sent."""
        waiting = sorted(self.data.keys() - self.acked - self.holders.keys())
        poison = self.poison()
        if self.kind is SubscriptionType.SHARED:
            due = sorted((due, p) for p, due in self.due.items() if due <= self.now and p not in poison)
            again = itertools.takewhile(lambda p: p not in self.unstored, (p for _, p in due))
            fresh = [p for p in waiting if p not in self.returned and p not in self.due]
            return [*sorted(self.returned), *again, *fresh]
        found: list[int] = []
        for position in waiting:
            if position in poison and self.policy.poison_policy is not PoisonPolicy.BLOCK:
                continue
            if position in poison | self.unstored or self.due.get(position, 0) > self.now:
                break
            found.append(position)
        return found

    @rule(
        consumer_id=CONSUMERS,
        credit=CREDIT,
        how=st.sampled_from(["new", "resume", "resume", "repeat", "late"]),
        part=st.sampled_from([0, 0.5, 1]),
    )
    def attach(self, consumer_id: int, credit: tuple[int, int], how: str, part: float) -> None:
        before = self.streams.get(consumer_id)
        resumes = received = 0
        session = self.session = self.session + 1
        if before is not None and how == "resume":
            resumes, received = before.session, int(part * max(before.numbers, default=0))
        elif before is not None and how == "repeat":
            session = before.session
        elif before is not None and how == "late":
            session = before.session - 1
        request = Attach(consumer_id, f"gateway-{session}", session, *credit, resumes, received)
        taken = self.kind is SubscriptionType.EXCLUSIVE and bool(self.streams.keys() - {consumer_id})
        if taken or (before is not None and how == "late"):
            with pytest.raises(Refused):
                self.dispatch.attach(request, self.now)
            return
        superseded = self.dispatch.attach(request, self.now)
        if before is not None and how == "repeat":
            assert superseded is None
            before.credit = [max(*pair) for pair in zip(before.credit, credit, strict=True)]
            return
        if before is None or resumes:
            assert superseded is None
        else:
            assert superseded is not None
            assert (superseded.gateway, superseded.session) == (f"gateway-{before.session}", before.session)
        if before is not None:
            kept = {p for n, ps in before.numbers.items() if resumes and n <= received for p in ps}
            self.release(consumer_id, kept)
        stream = self.streams[consumer_id] = Stream(consumer_id, session, *credit)
        if before is not None and resumes:
            stream.numbers[0] = [p for p, holder in self.holders.items() if holder == consumer_id]
        if consumer_id not in self.joined:
            self.joined.append(consumer_id)

    def release(self, consumer_id: int, kept: set[int]) -> None:
        for position in [p for p, holder in self.holders.items() if holder == consumer_id]:
            if position not in kept:
                del self.holders[position]
                self.returned.add(position)

    @rule(consumer_id=CONSUMERS, stale=st.booleans())
    def detach(self, consumer_id: int, *, stale: bool) -> None:
        stream = self.streams.get(consumer_id)
        if stream is None or stale:
            assert not self.dispatch.detach(consumer_id, (stream.session if stream else 1) - 1)
            return
        assert self.dispatch.detach(consumer_id, stream.session)
        del self.streams[consumer_id]
        self.joined.remove(consumer_id)
        self.release(consumer_id, set())

    @rule(
        consumer_id=CONSUMERS,
        messages=st.integers(-3, 8),
        size=st.sampled_from([-30, 0, 10, 20, 120]),
        stale=st.booleans(),
    )
    def grant(self, consumer_id: int, messages: int, size: int, *, stale: bool) -> None:
        stream = self.streams.get(consumer_id)
        if stream is None or stale:
            session = (stream.session if stream else self.session) - 1
            assert not self.dispatch.grant(SessionState(consumer_id, session, PLENTY, PLENTY))
            return
        totals = [max(stream.credit[0] + messages, 0), max(stream.credit[1] + size, 0)]
        assert self.dispatch.grant(SessionState(consumer_id, stream.session, *totals))
        stream.credit = [max(pair) for pair in zip(stream.credit, totals, strict=True)]

    @rule(
        rate=st.sampled_from([0, 0, 0, 1, 3]),
        wait=st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.0]),
        journal=st.sampled_from([True, True, False]),
    )
    def send(self, rate: int, wait: float, *, journal: bool = True) -> None:
        self.now += wait
        if journal:
            self.dispatch.retries.take_changes()
            self.dispatch.failures_stored()
            self.unstored.clear()
        bucket = TokenBucket(rate, self.now)
        budget = bucket.available(self.now)
        waiting = self.to_send()
        sent: list[int] = []
        for outgoing in self.dispatch.dispatch(self.now, (bucket, TokenBucket(0, self.now))):
            self.receive(outgoing)
            sent.extend(positions_in(outgoing))
        assert sorted(sent) == sorted(waiting[: len(sent)]), "nothing early, nothing held up, all in its turn"
        assert len(sent) <= budget
        if len(sent) + 1 <= budget and len(sent) < len(waiting):
            able = [c for c in self.joined if self.has_room(c)]
            assert not able if self.kind is SubscriptionType.SHARED else not {*self.joined[:1]} & {*able}

    def receive(self, outgoing: Outgoing) -> None:
        stream = self.streams[outgoing.consumer_id]
        assert (outgoing.session, outgoing.gateway) == (stream.session, f"gateway-{stream.session}")
        assert outgoing.number == max(stream.numbers, default=0) + 1
        positions = positions_in(outgoing)
        assert 0 < len(positions) <= DELIVERY_MESSAGES_MAX
        for number, before in stream.numbers.items():  # what failed is in several deliveries
            stream.numbers[number] = [position for position in before if position not in positions]
        stream.numbers[outgoing.number] = positions
        if self.kind is not SubscriptionType.SHARED:
            assert outgoing.consumer_id == self.joined[0], "the one that joined first is the active one"
        assert len(positions) == len(set(positions))
        if self.kind is not SubscriptionType.SHARED:
            assert positions == sorted(positions)
        for position, message in entries_in(outgoing):
            assert position not in self.acked
            assert position not in self.holders, "two holders of one message"
            assert self.has_room(outgoing.consumer_id)
            assert message == self.data[position]
            self.holders[position] = outgoing.consumer_id
            self.due.pop(position, None)
            self.returned.discard(position)
            stream.sent[0] += 1
            stream.sent[1] += len(message)

    def has_room(self, consumer_id: int) -> bool:
        stream = self.streams[consumer_id]
        held = [len(self.data[p]) for p, holder in self.holders.items() if holder == consumer_id]
        return (
            stream.sent[0] < stream.credit[0]
            and stream.sent[1] < stream.credit[1]
            and len(held) < WINDOW_MESSAGES
            and sum(held) < WINDOW_BYTES
        )

    # What always holds

    @invariant()
    def nothing_is_lost_and_nothing_held_twice(self) -> None:
        if not hasattr(self, "dispatch"):
            return
        dispatch = self.dispatch
        held = [(p, d.consumer.consumer_id) for d in dispatch._in_flight for p, _ in d.run.entries()]
        queued = [*dispatch._pending, *(run for _, run in dispatch._again)]
        waiting = [p for run in queued for p, _ in run.entries() if not dispatch.cursor.is_acked(p)]
        assert sorted([*(p for p, _ in held), *waiting, *self.due]) == sorted(self.data.keys() - self.acked)
        assert dict(held) == self.holders
        assert held == sorted(held)
        assert dispatch.unacked == len(held)
        assert dispatch.waiting == sum(map(len, queued)) + len(self.due.keys() - self.poison())
        assert (dispatch.retries.held, len(dispatch.retries)) == (
            len(self.due),
            len(self.failures.keys() - self.acked),
        )
        assert all(dispatch.retries.failures(p) == n for p, n in self.failures.items() if p not in self.acked)

    @invariant()
    def what_is_counted_is_there(self) -> None:
        if not hasattr(self, "dispatch"):
            return
        dispatch = self.dispatch
        assert dispatch._pending_bytes == sum(run.size for run in dispatch._pending)
        for consumer_id, consumer in dispatch.consumers.items():
            sizes = [len(self.data[p]) for p, holder in self.holders.items() if holder == consumer_id]
            assert (consumer.unacked, consumer.unacked_bytes) == (len(sizes), sum(sizes))
            assert consumer.unacked <= WINDOW_MESSAGES
        assert [consumer.consumer_id for consumer in dispatch.attached] == self.joined
        for consumer_id, stream in self.streams.items():
            session = dispatch.consumers[consumer_id].session
            assert session is not None
            assert [session.messages_total, session.bytes_total] == stream.credit
            assert [session.messages_sent, session.bytes_sent] == stream.sent


DispatchMachine.TestCase.settings = settings(stateful_step_count=40)
TestReliableDispatch = DispatchMachine.TestCase


def new_dispatch(kind: SubscriptionType, consumers: int, credit: int = PLENTY) -> ReliableDispatch:
    dispatch = ReliableDispatch(kind, Cursor(0), Window(10_000, PLENTY))
    for consumer_id in range(1, consumers + 1):
        dispatch.add(consumer_id, f"c{consumer_id}")
        dispatch.attach(Attach(consumer_id, "g", consumer_id, credit, PLENTY), 0.0)
    return dispatch


def offered(dispatch: ReliableDispatch, count: int, size: int = 1, first: int = 1) -> None:
    dispatch.offer(Run.of(first, [bytes(size)] * count))


def entries_in(outgoing: Outgoing) -> list[tuple[int, bytes]]:
    return [entry for run in outgoing.runs for entry in run.entries()]


def positions_in(outgoing: Outgoing) -> list[int]:
    return [position for position, _ in entries_in(outgoing)]


def held_by(dispatch: ReliableDispatch, consumer_id: int) -> list[tuple[int, int]]:
    """The spans of positions that a consumer has not acknowledged."""
    held = [each for each in dispatch._in_flight if each.consumer.consumer_id == consumer_id]
    return [(each.first, each.last) for each in held]


def sent_to(outgoings: list[Outgoing]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for outgoing in outgoings:
        counts[outgoing.consumer_id] += len(positions_in(outgoing))
    return counts


def test_a_shared_subscription_gives_each_consumer_its_turn() -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 3)
    counts: Counter[int] = Counter()
    for first in range(1, 31):
        offered(dispatch, 1, first=first)
        counts += sent_to(dispatch.dispatch(0.0, ()))
    assert counts == Counter({1: 10, 2: 10, 3: 10})
    offered(dispatch, 30, first=31)
    assert sent_to(dispatch.dispatch(0.0, ())) == Counter({1: 10, 2: 10, 3: 10})


@pytest.mark.parametrize("slow_first", [True, False])
def test_a_slow_consumer_does_not_hoard_what_a_fast_one_could_do(slow_first: bool) -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 2)
    slow, fast = (1, 2) if slow_first else (2, 1)
    for first in range(1, 201, 2):
        offered(dispatch, 2, first=first)
        dispatch.dispatch(0.0, ())
        dispatch.ack(held_by(dispatch, fast), 1000)
    assert dispatch.consumers[slow].unacked <= 2
    assert not dispatch.consumers[fast].unacked


def test_a_stream_resumed_again_and_again_keeps_what_it_received() -> None:
    dispatch = new_dispatch(SubscriptionType.EXCLUSIVE, 1)
    for position in range(1, 5):
        offered(dispatch, 1, first=position)
        dispatch.dispatch(0.0, ())
    dispatch.attach(Attach(1, "g", 2, PLENTY, PLENTY, resumes=1, received=3), 0.0)
    (outgoing,) = dispatch.dispatch(0.0, ())
    assert (outgoing.number, positions_in(outgoing)) == (1, [4])
    dispatch.attach(Attach(1, "g", 3, PLENTY, PLENTY, resumes=2, received=0), 0.0)
    (outgoing,) = dispatch.dispatch(0.0, ())
    assert positions_in(outgoing) == [4]
    dispatch.attach(Attach(1, "g", 4, PLENTY, PLENTY, resumes=2, received=1), 0.0)
    (outgoing,) = dispatch.dispatch(0.0, ())
    assert positions_in(outgoing) == [1, 2, 3, 4], "it resumed a stream that is over"


def test_a_consumer_without_room_does_not_hold_up_the_others() -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 2, credit=3)
    offered(dispatch, 10)
    assert sent_to(dispatch.dispatch(0.0, ())) == Counter({1: 3, 2: 3})
    dispatch.grant(SessionState(2, 2, 100, PLENTY))
    assert sent_to(dispatch.dispatch(0.0, ())) == Counter({2: 4})


def test_a_consumer_holds_no_more_unacknowledged_messages_than_its_prefetch() -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 2)
    dispatch.attach(Attach(1, "g", 10, PLENTY, PLENTY, prefetch=2), 0.0)
    offered(dispatch, 10)
    assert sent_to(dispatch.dispatch(0.0, ())) == Counter({1: 2, 2: 8})
    dispatch.ack([(held_by(dispatch, 1)[0][0],) * 2], 10)
    dispatch.detach(2, 2)
    assert sent_to(dispatch.dispatch(0.0, ())) == Counter({1: 1})


def test_delivery_pauses_when_too_many_messages_are_unacknowledged_and_goes_on_when_fewer_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reliable_module, "UNACKED_MAX", 10)
    dispatch = new_dispatch(SubscriptionType.SHARED, 3)
    offered(dispatch, 30)
    assert sum(sent_to(dispatch.dispatch(0.0, ())).values()) == 10
    assert dispatch.dispatch(0.0, ()) == []
    dispatch.ack([(2, 2), (5, 5)], 30)
    assert sum(sent_to(dispatch.dispatch(0.0, ())).values()) == 2
    assert dispatch.paused
    # What a consumer that left had not acknowledged goes to the others first.
    dispatch.detach(1, 1)
    redelivered = [position for out in dispatch.dispatch(0.0, ()) for position in positions_in(out)]
    assert max(redelivered) <= 12


def test_failover_hands_over_to_the_next_from_the_lowest_unacknowledged() -> None:
    dispatch = new_dispatch(SubscriptionType.FAILOVER, 2)
    offered(dispatch, 6)
    dispatch.dispatch(0.0, ())
    dispatch.ack([(1, 2), (4, 4)], 6)
    dispatch.detach(1, 1)
    offered(dispatch, 1, first=7)
    (outgoing,) = dispatch.dispatch(0.0, ())
    assert outgoing.consumer_id == 2
    assert positions_in(outgoing) == [3, 5, 6, 7]
    assert dispatch.redelivered == 3


def test_an_exclusive_place_is_kept_for_a_consumer_that_was_admitted_lately() -> None:
    dispatch = ReliableDispatch(SubscriptionType.EXCLUSIVE, Cursor(0), Window(1, 1))
    dispatch.add(1, "anna")
    dispatch.expect(2, "bert", until=10.0)
    with pytest.raises(Refused):
        dispatch.attach(Attach(1, "g", 1, 1, 1), 9.9)
    assert dispatch.attach(Attach(1, "g", 1, 1, 1), 10.1) is None


def test_an_unknown_consumer_cannot_attach() -> None:
    with pytest.raises(NotFound):
        new_dispatch(SubscriptionType.SHARED, 1).attach(Attach(9, "g", 9, 1, 1), 0.0)


def test_deliveries_are_bounded_in_messages_and_bytes() -> None:
    dispatch = new_dispatch(SubscriptionType.EXCLUSIVE, 1)
    offered(dispatch, 2 * DELIVERY_MESSAGES_MAX + 1)
    sizes = [len(positions_in(outgoing)) for outgoing in dispatch.dispatch(0.0, ())]
    assert sizes == [DELIVERY_MESSAGES_MAX, DELIVERY_MESSAGES_MAX, 1]
    dispatch = new_dispatch(SubscriptionType.EXCLUSIVE, 1)
    offered(dispatch, 3, size=DELIVERY_BYTES_MAX // 2 + 1)
    offered(dispatch, 1, size=2 * DELIVERY_BYTES_MAX, first=4)
    outgoings = dispatch.dispatch(0.0, ())
    assert [len(positions_in(outgoing)) for outgoing in outgoings] == [1, 1, 1, 1]
    assert [outgoing.number for outgoing in outgoings] == [1, 2, 3, 4]


def reads(dispatch: ReliableDispatch) -> bool:
    return dispatch.has_room


def test_reading_stops_when_much_waits_or_nobody_is_there() -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 1, credit=0)
    assert reads(dispatch)
    offered(dispatch, PENDING_MESSAGES_MAX)
    assert not reads(dispatch)
    dispatch.grant(SessionState(1, 1, 1, PLENTY))
    dispatch.dispatch(0.0, ())
    assert reads(dispatch)
    dispatch.detach(1, 1)
    assert not reads(dispatch)


def test_starting_over_forgets_messages_and_keeps_streams() -> None:
    dispatch = new_dispatch(SubscriptionType.SHARED, 2)
    offered(dispatch, 6)
    dispatch.dispatch(0.0, ())
    dispatch.start_over(Cursor(0))
    assert (dispatch.waiting, dispatch.unacked) == (0, 0)
    offered(dispatch, 2)
    outgoings = dispatch.dispatch(0.0, ())
    assert sent_to(outgoings) == Counter({1: 1, 2: 1})
    assert {outgoing.number for outgoing in outgoings} == {2}


def dealt_one_by_one(levels: list[int], rooms: list[int], messages: int) -> list[int]:
    """How many of the messages each consumer gets if each one goes to who has the fewest."""
    got = [0] * len(levels)
    for _ in range(messages):
        able = [n for n in range(len(levels)) if got[n] < rooms[n]]
        if not able:
            break
        got[min(able, key=lambda n: levels[n] + got[n])] += 1
    return got


@given(
    before=st.lists(st.integers(0, 60), min_size=2, max_size=5),
    data=st.data(),
    sections=st.lists(st.integers(1, 200), max_size=4),
)
def test_slices_give_each_consumer_what_dealing_one_by_one_would(
    before: list[int], data: st.DataObject, sections: list[int]
) -> None:
    rooms = data.draw(st.lists(st.integers(0, 120), min_size=len(before), max_size=len(before)))
    dispatch = ReliableDispatch(SubscriptionType.SHARED, Cursor(0), Window(10_000, PLENTY))
    position = 1
    for number, level in enumerate(before, 1):
        dispatch.add(number, str(number))
        dispatch.attach(Attach(number, "g", number, level, PLENTY), 0.0)
        if level:
            offered(dispatch, level, first=position)
        assert sum(sent_to(dispatch.dispatch(0.0, ())).values()) == level
        position += level
        dispatch.grant(SessionState(number, number, level, PLENTY))
    for number, (level, room) in enumerate(zip(before, rooms, strict=True), 1):
        dispatch.grant(SessionState(number, number, level + room, PLENTY))
    for count in sections:
        position += 1
        offered(dispatch, count, first=position)
        position += count
    got = sent_to(dispatch.dispatch(0.0, ()))
    expected = dealt_one_by_one(before, rooms, sum(sections))
    levels = [level + got[number] for number, level in enumerate(before, 1)]
    assert sum(got.values()) == sum(expected)
    for number, (level, one_by_one) in enumerate(zip(levels, expected, strict=True)):
        assert abs(level - before[number] - one_by_one) <= 1, "only who is last among equals may differ"
    assert sorted(levels) == sorted(b + e for b, e in zip(before, expected, strict=True))


def test_what_a_slow_consumer_keeps_does_not_keep_whole_sections_in_memory() -> None:
    """What stays unacknowledged keeps no more memory than a few times its own bytes."""
    dispatch = new_dispatch(SubscriptionType.SHARED, 8)
    for first in range(1, 2000, 200):
        offered(dispatch, 100, size=1000, first=first)
        dispatch.dispatch(0.0, ())
        dispatch.ack([(first, first + 49), (first + 51, first + 99)], 10_000)
    held = list(dispatch._in_flight)
    assert sum(len(each.run) for each in held) == 10
    assert sum(len(each.run.data) for each in held) <= COPY_BELOW * 10 * 1000
