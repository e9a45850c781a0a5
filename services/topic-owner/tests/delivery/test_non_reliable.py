from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from danube_common.model.position import BEFORE_ALL
from danube_common.model.rate_limit import TokenBucket
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.sessions import Attach, SessionState
from danube_topic_owner.delivery.non_reliable import (
    MESSAGE_OVERHEAD_BYTES,
    WAITING_BYTES_MAX,
    NonReliableDispatch,
)

WAITING_MAX = -(-WAITING_BYTES_MAX // (4 + MESSAGE_OVERHEAD_BYTES))
"""Messages of four bytes that fill the queue."""
NAMES = {1: "anna", 2: "bert", 3: "carl"}
CONSUMERS = st.sampled_from(list(NAMES))


class NonReliableMachine(RuleBasedStateMachine):
    """Every message is sent once, waits, or is counted as dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.offered = 0
        self.sent: list[int] = []
        self.session = 0
        self.credit: dict[int, int] = {}

    @initialize(kind=st.sampled_from([SubscriptionType.SHARED, SubscriptionType.FAILOVER]))
    def begin(self, kind: SubscriptionType) -> None:
        self.dispatch = NonReliableDispatch(kind)
        for consumer_id, name in NAMES.items():
            self.dispatch.add(consumer_id, name)

    @rule(count=st.integers(0, 5) | st.just(WAITING_MAX // 2))
    def offer(self, count: int) -> None:
        numbers = range(self.offered, self.offered + count)
        self.offered += count
        if count:
            self.dispatch.offer(Run.of(BEFORE_ALL, [number.to_bytes(4) for number in numbers]))

    @rule(consumer_id=CONSUMERS, credit=st.integers(0, 6))
    def attach(self, consumer_id: int, credit: int) -> None:
        self.session += 1
        self.dispatch.attach(Attach(consumer_id, "g", self.session, credit, 1 << 40), self.now)
        self.credit[consumer_id] = credit

    @rule(consumer_id=CONSUMERS, more=st.integers(0, 2000))
    def grant(self, consumer_id: int, more: int) -> None:
        session = self.dispatch.consumers[consumer_id].session
        if session is not None:
            total = session.messages_total + more
            self.dispatch.grant(SessionState(consumer_id, session.session, total, 1 << 40))
            self.credit[consumer_id] += more

    @rule(consumer_id=CONSUMERS)
    def detach(self, consumer_id: int) -> None:
        session = self.dispatch.consumers[consumer_id].session
        if session is not None:
            self.dispatch.detach(consumer_id, session.session)
            del self.credit[consumer_id]

    @rule(consumer_id=CONSUMERS, grace=st.floats(0, 3))
    def expect(self, consumer_id: int, grace: float) -> None:
        if self.dispatch.consumers[consumer_id].session is None:
            self.dispatch.expect(consumer_id, NAMES[consumer_id], self.now + grace)

    @rule(wait=st.floats(0, 2), rate=st.sampled_from([0, 0, 2]))
    def send(self, wait: float, rate: int) -> None:
        self.now += wait
        bucket = TokenBucket(rate, self.now)
        somebody = bool(self.dispatch.present(self.now))
        waited = self.dispatch.waiting
        dropped = self.dispatch.dropped
        outgoings = self.dispatch.dispatch(self.now, (bucket,))
        if not somebody:
            assert not outgoings
            assert (self.dispatch.waiting, self.dispatch.dropped) == (0, dropped + waited)
        sent: list[int] = []
        for outgoing in outgoings:
            numbers = [int.from_bytes(message) for run in outgoing.runs for message in run.messages()]
            assert numbers == sorted(numbers)
            self.credit[outgoing.consumer_id] -= len(numbers)
            assert self.credit[outgoing.consumer_id] >= 0
            sent.extend(numbers)
        if rate:
            assert len(sent) <= rate
        elif self.dispatch.waiting and self.dispatch.subscription_type is SubscriptionType.SHARED:
            assert not any(self.credit.values()), "somebody had room and something waits"
        assert not self.sent or not sent or min(sent) > max(self.sent)
        self.sent.extend(sent)

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        if hasattr(self, "dispatch"):
            dispatch = self.dispatch
            assert len(set(self.sent)) == len(self.sent)
            assert len(self.sent) + dispatch.waiting + dispatch.dropped == self.offered
            assert dispatch.waiting <= WAITING_MAX


NonReliableMachine.TestCase.settings = settings(stateful_step_count=30)
TestNonReliableDispatch = NonReliableMachine.TestCase


def test_large_messages_are_bounded_in_bytes_too() -> None:
    dispatch = NonReliableDispatch(SubscriptionType.SHARED)
    dispatch.expect(1, "anna", until=1.0)
    dispatch.offer(Run.of(BEFORE_ALL, [bytes(1024 * 1024)] * 40))
    assert dispatch.waiting == 16
    assert dispatch.dropped == 24
    dispatch.attach(Attach(1, "g", 1, 100, 1 << 40), 0.0)
    assert sum(len(run) for outgoing in dispatch.dispatch(0.0, ()) for run in outgoing.runs) == 16
    dispatch.offer(Run.of(BEFORE_ALL, [bytes(1024 * 1024)] * 16))
    assert dispatch.waiting == 16
