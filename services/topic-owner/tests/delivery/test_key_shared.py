from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from danube_common.model.failure_policy import BackoffStrategy, FailurePolicy, PoisonPolicy
from danube_common.model.run import Run
from danube_common.wire.owner.sessions import Attach
from danube_proto import danube_api_pb2 as api
from danube_topic_owner.delivery import key_shared as module
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.delivery.dispatch import Outgoing
from danube_topic_owner.delivery.key_ring import KeyRing
from danube_topic_owner.delivery.key_shared import KeySharedDispatch
from danube_topic_owner.delivery.key_shared_non_reliable import KeySharedNonReliableDispatch
from danube_topic_owner.journal.cursor import Cursor

PLENTY = 1 << 40
NAMES = ["anna", "bert", "carl"]
KEYS = ["red", "green", "blue", "grey", "black"]
FILTERS = st.sampled_from([(), (), ("gr*",), ("b*", "red"), ("?ed",)])
POLICIES = st.builds(
    FailurePolicy,
    max_redelivery_count=st.integers(0, 2),
    ack_timeout_ms=st.sampled_from([0, 20_000]),
    base_redelivery_delay_ms=st.sampled_from([0, 1000]),
    max_redelivery_delay_ms=st.just(3000),
    backoff_strategy=st.sampled_from(BackoffStrategy),
    poison_policy=st.sampled_from(PoisonPolicy),
)


def message_of(key: str, size: int = 0) -> bytes:
    return api.StreamMessage(payload=b"*" * size, producer_name="p", routing_key=key).SerializeToString()


class KeySharedMachine(RuleBasedStateMachine):
    """Dispatch beside a model of what each consumer has of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.last = 0
        self.session = 0
        self.key: dict[int, str] = {}
        self.acked: set[int] = set()
        self.sent: set[int] = set()
        self.failures: Counter[int] = Counter()
        self.unstored: set[int] = set()
        self.holders: dict[int, int] = {}
        """Consumer id by position in flight."""
        self.delivery: dict[int, int] = {}
        self.sessions: dict[int, int] = {}
        self.filters: dict[int, tuple[str, ...]] = {}

    @initialize(policy=POLICIES, window=st.sampled_from([2, 6, 50]))
    def begin(self, policy: FailurePolicy, window: int) -> None:
        self.dispatch = KeySharedDispatch(Cursor(0), Window(window, 2000), policy)
        for consumer_id, name in enumerate(NAMES, 1):
            self.dispatch.add(consumer_id, name)
        self.join(1, ())
        self.offer(["red", "green", "red", "blue", "red", "red"], 0)
        self.send()

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=10), gap=st.integers(0, 2))
    def offer(self, keys: list[str], gap: int) -> None:
        first = self.last + gap + 1
        self.dispatch.offer(Run.of(first, [message_of(key) for key in keys]))
        for position, key in enumerate(keys, first):
            self.key[position] = key
        self.last = first + len(keys) - 1

    @rule(consumer_id=st.integers(1, 3), filters=FILTERS)
    def join(self, consumer_id: int, filters: tuple[str, ...]) -> None:
        """A new stream, also of a consumer that has one."""
        self.session += 1
        self.dispatch.filter_keys(consumer_id, filters)
        self.dispatch.attach(Attach(consumer_id, "gateway", self.session, PLENTY, PLENTY), self.now)
        self.take_back(consumer_id)
        self.sessions[consumer_id], self.filters[consumer_id] = self.session, filters

    @rule(consumer_id=st.integers(1, 3), part=st.booleans())
    def resume(self, consumer_id: int, part: bool) -> None:
        """The gateway lost a delivery, or more of them."""
        if (before := self.sessions.get(consumer_id)) is None:
            return
        numbers = sorted({self.delivery[p] for p, each in self.holders.items() if each == consumer_id})
        received = numbers[len(numbers) // 2] if numbers and part else 0
        self.session += 1
        attach = Attach(consumer_id, "gateway", self.session, PLENTY, PLENTY, before, received)
        self.dispatch.attach(attach, self.now)
        self.sessions[consumer_id] = self.session
        self.take_back(consumer_id, received)

    @rule(consumer_id=st.integers(1, 3))
    def leave(self, consumer_id: int) -> None:
        if (session := self.sessions.pop(consumer_id, None)) is not None:
            assert self.dispatch.detach(consumer_id, session)
            self.take_back(consumer_id)

    def take_back(self, consumer_id: int, received: int = -1) -> None:
        for position, holder in list(self.holders.items()):
            if holder == consumer_id:
                if self.delivery[position] > received:
                    del self.holders[position]
                else:
                    self.delivery[position] = 0

    @rule(data=st.data(), count=st.integers(1, 4))
    def ack(self, data: st.DataObject, count: int) -> None:
        if self.holders:
            first = data.draw(st.sampled_from(sorted(self.holders)))
            self.ack_span(first, min(first + count - 1, self.last))

    @rule(data=st.data())
    def ack_late(self, data: st.DataObject) -> None:
        """Acknowledge something that was delivered once and may wait to come again."""
        if late := sorted(self.sent - self.acked):
            position = data.draw(st.sampled_from(late))
            self.ack_span(position, position)

    def ack_span(self, first: int, last: int) -> None:
        self.dispatch.ack([(first, last)], self.last)
        for position in range(first, last + 1):
            if position in self.key:
                self.acked.add(position)
            self.holders.pop(position, None)

    @rule(data=st.data(), count=st.integers(1, 3))
    def nack(self, data: st.DataObject, count: int) -> None:
        if not self.holders:
            return
        first = data.draw(st.sampled_from(sorted(self.holders)))
        self.dispatch.nack(first, first + count - 1, self.now)
        for position in [p for p in self.holders if first <= p < first + count]:
            self.fail(position)

    def fail(self, position: int) -> None:
        """What follows in the key comes again too."""
        self.holders.pop(position, None)
        self.unstored.add(position)
        for later in [p for p in self.holders if p > position and self.key[p] == self.key[position]]:
            del self.holders[later]

    @rule()
    def resolve_poison(self) -> None:
        for message in self.dispatch.retries.dead:
            self.ack_span(message.position, message.position)

    @rule(policy=POLICIES)
    def change_policy(self, policy: FailurePolicy) -> None:
        self.dispatch.change_policy(policy, self.now)

    @rule()
    def expire(self) -> None:
        """The oldest message is retained no longer."""
        if open_ := sorted(self.key.keys() - self.acked):
            self.dispatch.expire(open_[0])
            self.acked |= {p for p in self.key if p <= open_[0]}
            for position in [p for p in self.holders if p <= open_[0]]:
                del self.holders[position]

    @rule(wait_s=st.sampled_from([0.0, 1.0, 5.0, 30.0]), journals=st.booleans())
    def send(self, wait_s: float = 0.0, *, journals: bool = True) -> None:
        self.now += wait_s
        if journals:
            journal(self.dispatch)
            self.unstored.clear()
        in_flight = set(self.holders)
        outgoing = self.dispatch.dispatch(self.now, ())
        sent = {p for each in outgoing for run in each.runs for p, _ in run.entries()}
        # What timed out was taken back, and came again at most once.
        still = in_flight & self.dispatch._flight._sent.keys()
        for position in in_flight - (still - sent):
            self.holders.pop(position, None)
        self.take(outgoing)

    def take(self, outgoing: list[Outgoing]) -> None:
        ring = KeyRing((each, self.filters[each]) for each in self.sessions)
        for each in outgoing:
            assert each.session == self.sessions[each.consumer_id]
            for position, message in (entry for run in each.runs for entry in run.entries()):
                key = self.key[position]
                assert message == message_of(key)
                assert position not in self.acked
                assert position not in self.holders
                assert position not in self.unstored, "it comes again only when its failure is journaled"
                assert ring.consumer_of(key.encode()) == each.consumer_id
                before = [p for p, k in self.key.items() if k == key and p < position]
                missing = [p for p in before if p not in self.acked and p not in self.holders]
                assert not missing, "a key is sent in order, and no message of it is passed over"
                self.holders[position] = each.consumer_id
                self.delivery[position] = each.number
                self.sent.add(position)

    @invariant()
    def a_key_is_at_one_consumer(self) -> None:
        holders: dict[str, set[int]] = {}
        for position, consumer_id in self.holders.items():
            holders.setdefault(self.key[position], set()).add(consumer_id)
        assert all(len(each) == 1 for each in holders.values())

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "dispatch"):
            return
        assert self.dispatch.unacked == len(self.holders)
        keys = self.dispatch._keys.values()
        queued = [entry for key in keys for entry in key.queue]
        laned = [entry for lane in self.dispatch._lanes.values() for entry in lane]
        assert self.dispatch._pending_messages == len(queued) + len(laned)
        assert self.dispatch._pending_bytes == sum(len(entry[2]) for entry in queued + laned)
        assert sum(key.laned for key in keys) == len(laned)
        assert sum(each.unacked for each in self.dispatch.consumers.values()) == len(self.holders)

    def teardown(self) -> None:
        """In the end everything comes to somebody: nothing is lost, whatever happened."""
        if not hasattr(self, "dispatch"):
            return
        self.change_policy(FailurePolicy(max_redelivery_count=1000, ack_timeout_ms=0))
        self.join(1, ())
        for _ in range(len(self.key) + 10):
            self.send(4.0)
            for position in list(self.holders):
                self.ack_span(position, position)
        assert self.acked == self.key.keys()
        assert not self.dispatch.waiting
        self.send()
        assert not self.dispatch._keys
        assert not self.dispatch._failed_keys


TestKeyShared = KeySharedMachine.TestCase
TestKeyShared.settings = settings(stateful_step_count=25)


def dispatch_of(
    keys: list[str], policy: FailurePolicy | None = None, **consumers: tuple[str, ...]
) -> KeySharedDispatch:
    dispatch = KeySharedDispatch(Cursor(0), Window(), policy or FailurePolicy(base_redelivery_delay_ms=0))
    for number, (name, filters) in enumerate(consumers.items(), 1):
        dispatch.add(number, name)
        dispatch.filter_keys(number, filters)
        dispatch.attach(Attach(number, "gateway", number, PLENTY, PLENTY), 0.0)
    dispatch.offer(Run.of(1, [message_of(key) for key in keys]))
    return dispatch


def journal(dispatch: KeySharedDispatch) -> None:
    dispatch.retries.take_changes()
    dispatch.failures_stored()


def sent(dispatch: KeySharedDispatch, now: float = 0.0) -> list[int]:
    """What comes once all failures are journaled."""
    journal(dispatch)
    return [p for each in dispatch.dispatch(now, ()) for run in each.runs for p, _ in run.entries()]


def test_what_was_delivered_after_a_message_of_its_key_that_failed_comes_again_after_it() -> None:
    dispatch = dispatch_of(["a", "b", "a", "a", "b"], anna=())
    assert sent(dispatch) == [1, 2, 3, 4, 5]
    dispatch.nack(1, 1, 0.0)
    assert sent(dispatch) == [1]
    dispatch.offer(Run.of(6, [message_of("a"), message_of("b")]))
    assert sent(dispatch) == [7]
    dispatch.ack([(1, 1)], 7)
    assert sent(dispatch) == [3, 4, 6]


def test_a_blocked_message_blocks_its_key_only_until_the_policy_changes() -> None:
    block = FailurePolicy(
        max_redelivery_count=0, poison_policy=PoisonPolicy.BLOCK, base_redelivery_delay_ms=0
    )
    dispatch = dispatch_of(["a", "b", "a"], block, anna=())
    sent(dispatch)
    dispatch.nack(1, 1, 0.0)
    dispatch.offer(Run.of(4, [message_of("a"), message_of("b")]))
    assert sent(dispatch) == [5]
    dispatch.change_policy(FailurePolicy(base_redelivery_delay_ms=0), 0.0)
    assert sent(dispatch) == [1]
    dispatch.ack([(1, 1)], 5)
    assert sent(dispatch) == [3, 4]


def test_a_key_moves_when_its_old_consumer_has_settled_it() -> None:
    dispatch = dispatch_of(["a", "a"], anna=())
    assert sent(dispatch) == [1, 2]
    dispatch.add(2, "bert")
    dispatch.filter_keys(2, ("a",))
    dispatch.attach(Attach(2, "gateway", 9, PLENTY, PLENTY), 0.0)
    dispatch.offer(Run.of(3, [message_of("a")]))
    assert not sent(dispatch)
    dispatch.ack([(2, 2)], 3)
    assert not sent(dispatch)
    dispatch.ack([(1, 1)], 3)
    (outgoing,) = dispatch.dispatch(0.0, ())
    assert (outgoing.consumer_id, outgoing.runs[0].first) == (2, 3)


def test_a_key_that_no_consumer_may_have_waits_for_one() -> None:
    dispatch = dispatch_of(["a", "b", "b"], anna=("a",))
    assert sent(dispatch) == [1]
    assert dispatch.unmatched == (2, "b")
    dispatch.filter_keys(1, ())
    assert sent(dispatch) == [2, 3]
    assert dispatch.unmatched == (0, "")


def test_a_key_has_a_bounded_number_of_messages_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEY_IN_FLIGHT_MAX", 2)
    dispatch = dispatch_of(["a", "a", "a", "b"], anna=())
    assert sent(dispatch) == [1, 2, 4]
    dispatch.ack([(1, 1)], 4)
    assert sent(dispatch) == [3]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYED_MESSAGES_MAX", 3)
    dispatch = dispatch_of(["b", "b"], anna=("a",))
    assert dispatch.has_room
    dispatch.offer(Run.of(3, [message_of("b")]))
    assert not dispatch.has_room


def test_failures_of_an_earlier_owner_keep_their_key_in_order() -> None:
    dispatch = KeySharedDispatch(Cursor(0), Window(), FailurePolicy(), {2: 1})
    dispatch.add(1, "anna")
    dispatch.attach(Attach(1, "gateway", 1, PLENTY, PLENTY), 0.0)
    dispatch.offer(Run.of(1, [message_of("a")] * 3))
    assert sent(dispatch, 100.0) == [1, 2]
    assert dispatch.retries.failures(2) == 1
    dispatch.ack([(2, 2)], 3)
    assert sent(dispatch, 100.0) == [3]


def test_a_consumer_that_is_silent_keeps_its_keys_and_gets_them_again_in_order() -> None:
    dispatch = dispatch_of(
        ["a", "a"], FailurePolicy(ack_timeout_ms=1000, base_redelivery_delay_ms=0), anna=()
    )
    assert sent(dispatch) == [1, 2]
    assert not sent(dispatch, 0.5)
    again = [p for now in range(1, 8) for p in sent(dispatch, float(now))]
    assert set(again) == {1}
    dispatch.ack([(1, 1)], 2)
    assert sent(dispatch, 8.0) == [2]


def test_a_non_reliable_topic_goes_by_the_ring() -> None:
    dispatch = KeySharedNonReliableDispatch()
    for number, filters in ((1, ("a*",)), (2, ("b*",))):
        dispatch.add(number, NAMES[number])
        dispatch.filter_keys(number, filters)
        dispatch.attach(Attach(number, "gateway", number, PLENTY, PLENTY), 0.0)
    dispatch.offer(Run.of(0, [message_of(key) for key in ("a1", "b1", "a2", "c")]))
    found = {
        each.consumer_id: [m for run in each.runs for m in run.messages()]
        for each in dispatch.dispatch(0.0, ())
    }
    assert found == {1: [message_of("a1"), message_of("a2")], 2: [message_of("b1")]}
    assert (dispatch.dropped, dispatch.waiting) == (1, 0)
    dispatch.offer(Run.of(0, [message_of("b2")]))
    dispatch.filter_keys(1, ())
    assert [each.consumer_id for each in dispatch.dispatch(0.0, ())] == [2]
    assert (dispatch.waiting, dispatch._queue_bytes) == (0, 0)
