from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from danube_common.model.failure_policy import (
    REASON_CHARACTERS_MAX,
    BackoffStrategy,
    FailurePolicy,
    PoisonPolicy,
)
from danube_common.model.run import Run
from danube_topic_owner.delivery import retries as retries_module
from danube_topic_owner.delivery.retries import Retries

POLICIES = st.builds(
    FailurePolicy,
    max_redelivery_count=st.integers(0, 3),
    base_redelivery_delay_ms=st.sampled_from([0, 1000, 3000]),
    max_redelivery_delay_ms=st.sampled_from([3000, 8000]),
    backoff_strategy=st.sampled_from(BackoffStrategy),
    poison_policy=st.sampled_from(PoisonPolicy),
)
POSITIONS = st.integers(1, 12)


@dataclass
class Known:
    """A message that failed, in the model."""

    failures: int = 0
    held: bool = False
    due: float = 0.0


class RetriesMachine(RuleBasedStateMachine):
    """Retries beside a model that looks at every message each time, and has no heap."""

    @initialize(
        policy=POLICIES,
        ordered=st.booleans(),
        journaled=st.dictionaries(POSITIONS, st.integers(1, 5), max_size=4),
    )
    def begin(self, policy: FailurePolicy, *, ordered: bool, journaled: dict[int, int]) -> None:
        self.now = 100.0
        self.policy, self.ordered = policy, ordered
        self.retries = Retries(policy, ordered=ordered, failures=journaled)
        self.known = {position: Known(count) for position, count in journaled.items()}
        self.unread = set(journaled)
        self.gone: set[int] = set()
        self.journal = dict(journaled)
        self.stored = dict(journaled)
        """What the journal has confirmed."""
        self.on_the_way: set[int] = set()
        self.exhausted = dict.fromkeys(PoisonPolicy, 0)

    # What happens

    @rule(wait=st.sampled_from([0.0, 0.5, 1.0, 10.0]))
    def time_passes(self, wait: float) -> None:
        self.now += wait

    @rule(position=POSITIONS, requested_ms=st.sampled_from([0, 0, 500, 5000, 60_000]))
    def a_delivery_fails(self, position: int, requested_ms: int) -> None:
        known = self.known.get(position)
        if position in self.gone | self.unread or (known is not None and known.held):
            return
        self.retries.fail(
            position,
            data_of(position),
            self.now,
            offset=position * 2,
            requested_ms=requested_ms,
            reason="why",
        )
        known = self.known.setdefault(position, Known())
        known.failures += 1
        known.held = True
        delay_ms = self.policy.base_redelivery_delay_ms
        if self.policy.backoff_strategy is BackoffStrategy.EXPONENTIAL:
            delay_ms *= 2 ** (known.failures - 1)
        known.due = self.now + min(max(delay_ms, requested_ms), self.policy.max_redelivery_delay_ms) / 1000
        if known.failures > self.policy.max_redelivery_count:
            self.exhausted[self.policy.poison_policy] += 1

    @rule(position=POSITIONS)
    def it_is_read(self, position: int) -> None:
        assert self.retries.read(position, data_of(position), position * 2) is (position in self.unread)
        if position in self.unread:
            self.unread.remove(position)
            self.known[position].held = True

    @rule()
    def the_next_one_is_delivered(self) -> None:
        waiting = {p: known for p, known in self.known.items() if known.held and not self.is_poison(known)}
        expected = None
        if self.ordered:
            first = self.lowest()
            if first in waiting and waiting[first].due <= self.now:
                expected = first
        elif due := [(known.due, p) for p, known in waiting.items() if known.due <= self.now]:
            expected = min(due)[1]
        if expected is not None and self.stored.get(expected) != self.known[expected].failures:
            expected = None
        found = self.retries.next(self.now)
        assert (found and found.position) == expected
        if found is not None:
            assert (found.data, found.offset) == (data_of(found.position), found.position * 2)
            self.retries.take()
            self.known[found.position].held = False

    @rule(position=POSITIONS, more=st.sampled_from([0, 0, 3, 100]))
    def messages_are_acknowledged(self, position: int, more: int) -> None:
        self.retries.forget(position, position + more)
        for each in range(position, position + more + 1):
            self.forget(each)

    @rule()
    def the_dead_are_dropped(self) -> None:
        for message in self.retries.dead:
            assert message.reason in ("why", "")
            self.retries.forget(message.position, message.position)
            self.forget(message.position)

    @rule(policy=POLICIES)
    def the_policy_changes(self, policy: FailurePolicy) -> None:
        self.retries.change_policy(policy, self.now)
        self.policy = policy
        for known in self.known.values():
            known.due = min(known.due, self.now + policy.max_redelivery_delay_ms / 1000)

    @rule()
    def what_changed_is_journaled(self) -> None:
        changes = self.retries.take_changes()
        assert changes == sorted(changes)
        self.on_the_way |= {position for position, _ in changes}
        self.journal.update(changes)
        assert {p: n for p, n in self.journal.items() if p in self.known} == {
            p: known.failures for p, known in self.known.items()
        }

    @rule()
    def the_journal_confirms(self) -> None:
        assert self.retries.stored() is bool(self.on_the_way & self.known.keys())
        self.on_the_way.clear()
        self.stored = dict(self.journal)

    def forget(self, position: int) -> None:
        self.known.pop(position, None)
        self.unread.discard(position)
        self.gone.add(position)

    # What always holds

    @invariant()
    def nothing_is_lost_and_the_counts_are_exact(self) -> None:
        retries = self.retries
        held = {p for p, known in self.known.items() if known.held}
        poison = {p for p in held if self.is_poison(self.known[p])}
        blocks = self.policy.poison_policy is PoisonPolicy.BLOCK
        assert (len(retries), retries.unread) == (len(self.known), len(self.unread))
        assert retries.waiting == len(held - poison)
        assert retries.has_dead is (not blocks and bool(poison))
        assert (retries.held, retries.held_bytes) == (len(held), sum(len(data_of(p)) for p in held))
        assert {message.position for message in retries.dead} == (set() if blocks else poison)
        assert all(message.data == data_of(message.position) for message in retries.dead)
        assert retries.blocked == (len(poison) if blocks else 0)
        blocked = retries.first_blocked
        assert (blocked and blocked.position) == (min(poison) if blocks and poison else None)
        assert retries.exhausted == self.exhausted
        assert all(retries.failures(p) == known.failures for p, known in self.known.items())

    @invariant()
    def the_failures_of_a_delivery_are_those_of_its_messages(self) -> None:
        known = [(p, self.known[p].failures) for p in sorted(self.known)]
        for length in (2, 12):  # shorter and longer than what failed
            runs = [Run.of(first, [b""] * length) for first in range(1, 13, length)]
            assert self.retries.failures_of(runs) == known

    @invariant()
    def what_waits_is_known_beforehand(self) -> None:
        first = self.lowest() if self.ordered else None
        assert self.retries.first_held == first
        waiting = {
            p: known.due for p, known in self.known.items() if known.held and not self.is_poison(known)
        }
        if self.ordered:
            assert self.retries.due == waiting.get(first or 0)
        else:
            assert self.retries.due == min(waiting.values(), default=None)

    def is_poison(self, known: Known) -> bool:
        return known.failures > self.policy.max_redelivery_count

    def lowest(self) -> int | None:
        """The first message that holds back others: what is to be dropped or dead-lettered does not."""
        blocks = self.policy.poison_policy is PoisonPolicy.BLOCK
        return min(
            (p for p, known in self.known.items() if known.held and (blocks or not self.is_poison(known))),
            default=None,
        )


def data_of(position: int) -> bytes:
    return bytes(position)


RetriesMachine.TestCase.settings = settings(stateful_step_count=40)
TestRetries = RetriesMachine.TestCase


def test_waits_that_were_given_up_take_no_room() -> None:
    """A consumer that asks for long waits and acknowledges meanwhile, again and again."""
    retries = Retries(FailurePolicy(max_redelivery_delay_ms=3_600_000), ordered=False)
    for position in range(1, 1000):
        retries.fail(position, b"", 0.0, requested_ms=3_600_000)
        retries.forget(position, position)
    assert len(retries._heap) <= retries_module.STALE_ENTRIES_MIN + 1


def test_a_reason_is_bounded() -> None:
    retries = Retries(FailurePolicy(max_redelivery_count=0, poison_policy=PoisonPolicy.DROP), ordered=True)
    retries.fail(1, b"", 0.0, reason="x" * (REASON_CHARACTERS_MAX + 1))
    assert [len(message.reason) for message in retries.dead] == [REASON_CHARACTERS_MAX]
