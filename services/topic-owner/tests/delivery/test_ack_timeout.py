from __future__ import annotations

import msgspec
import pytest

from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.run import Run
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.sessions import Attach
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.delivery.reliable import ReliableDispatch
from danube_topic_owner.journal.cursor import Cursor

PLENTY = 1 << 40
KINDS = pytest.mark.parametrize("kind", SubscriptionType)


class World:
    """A dispatch whose clock goes on second by second, with consumers that hold what came."""

    def __init__(self, kind: SubscriptionType, consumers: int = 1, **policy: int) -> None:
        given = msgspec.structs.replace(FailurePolicy(base_redelivery_delay_ms=0), **policy)
        self.dispatch = ReliableDispatch(kind, Cursor(0), Window(), given)
        self.now = 0.0
        self.held: dict[int, list[int]] = {}
        """Everything that came to each consumer and that it has not worked on yet, in order."""
        self.came: list[int] = []
        for consumer_id in range(1, consumers + 1):
            self.held[consumer_id] = []
            self.dispatch.add(consumer_id, f"c{consumer_id}")
            self.dispatch.attach(Attach(consumer_id, "g", consumer_id, PLENTY, PLENTY), 0.0)

    def offer(self, count: int, first: int = 1) -> None:
        self.dispatch.offer(Run.of(first, [b"m"] * count))
        self.turn()

    def turn(self) -> None:
        self.send()
        if self.dispatch.retries.has_changes:
            self.dispatch.retries.take_changes()
            self.dispatch.failures_stored()
            self.send()

    def send(self) -> None:
        for outgoing in self.dispatch.dispatch(self.now, ()):
            positions = [position for run in outgoing.runs for position, _ in run.entries()]
            self.held[outgoing.consumer_id] += positions
            self.came += positions

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.turn()

    def ack(self, *positions: int) -> None:
        self.dispatch.ack([(position, position) for position in positions], PLENTY)
        self.turn()

    def waits_s(self) -> list[float]:
        """How long the owner sleeps, if anything is due without an event."""
        wake_at = self.dispatch.wake_at
        return [] if wake_at is None else [wake_at - self.now]

    @property
    def timed_out(self) -> int:
        return self.dispatch.failure_figures.timed_out


@KINDS
def test_a_message_that_is_not_acknowledged_comes_again_after_the_timeout(kind: SubscriptionType) -> None:
    world = World(kind)
    world.offer(1)
    world.wait(29)
    assert world.came == [1]
    world.wait(3)
    assert world.came == [1, 1]
    world.wait(32)
    assert world.came == [1, 1, 1]
    world.ack(1)
    world.wait(100)
    assert (world.came, world.timed_out, world.dispatch.waiting) == ([1, 1, 1], 2, 0)


@KINDS
def test_zero_is_never(kind: SubscriptionType) -> None:
    world = World(kind, ack_timeout_ms=0)
    world.offer(3)
    world.wait(1000)
    assert world.came == [1, 2, 3]
    assert world.dispatch.wake_at is None


@KINDS
def test_a_consumer_that_works_through_what_it_read_ahead_gets_nothing_twice(kind: SubscriptionType) -> None:
    world = World(kind)
    world.offer(300)
    for position in range(1, 301):
        world.wait(1)
        world.ack(position)
    assert (world.came, world.timed_out) == (list(range(1, 301)), 0)


@KINDS
def test_a_consumer_that_is_too_slow_gets_one_message_again_for_each_timeout(kind: SubscriptionType) -> None:
    """It needs 40 s for each of 100 messages that it has read ahead."""
    world = World(kind)
    world.offer(100)
    for position in range(1, 11):
        world.wait(40)
        world.ack(position)
    assert len(world.came) <= 100 + 400 // 30
    assert set(world.came) == set(range(1, 101))


@KINDS
def test_a_message_that_was_passed_over_comes_again_while_later_ones_are_acknowledged(
    kind: SubscriptionType,
) -> None:
    world = World(kind)
    for position in range(1, 60):
        world.offer(1, first=position)
        if position != 5:
            world.ack(position)
        world.wait(1)
    assert world.came.count(5) == 2
    assert world.timed_out == 1
    assert sorted(set(world.came)) == list(range(1, 60))


def test_others_get_what_a_silent_consumer_holds_and_only_one_message_counts_as_failed() -> None:
    world = World(SubscriptionType.SHARED, consumers=2)
    world.offer(20)
    silent, busy = world.held[1], world.held[2]
    world.ack(*busy)
    seen = len(busy)
    for _ in range(31):
        world.wait(1)
        world.ack(*busy[seen:])
        seen = len(busy)
    assert world.timed_out == 1
    assert world.dispatch.unacked < 20, "the other one has got and acknowledged its part"
    assert set(silent) & set(busy)
    assert sum(world.dispatch.retries.failures(position) for position in range(1, 21)) <= 1


def test_in_order_what_timed_out_comes_again_before_what_was_never_sent() -> None:
    world = World(SubscriptionType.EXCLUSIVE, base_redelivery_delay_ms=5000)
    world.offer(3)
    world.wait(31)
    assert world.timed_out == 1
    world.offer(2, first=4)
    world.wait(3)
    assert world.came == [1, 2, 3]
    world.wait(4)
    assert world.came == [1, 2, 3, 1, 4, 5]


@KINDS
def test_an_acknowledgement_that_comes_late_counts(kind: SubscriptionType) -> None:
    world = World(kind, base_redelivery_delay_ms=5000)
    world.offer(1)
    world.wait(32)
    assert world.timed_out == 1
    world.ack(1)
    world.wait(60)
    assert world.came == [1]
    assert (world.dispatch.waiting, len(world.dispatch.retries)) == (0, 0)


@KINDS
def test_the_owner_is_woken_when_something_is_due_and_only_then(kind: SubscriptionType) -> None:
    world = World(kind, base_redelivery_delay_ms=5000)
    assert world.waits_s() == []
    world.offer(1)
    (wait_s,) = world.waits_s()
    assert 0 < wait_s <= 1
    world.dispatch.nack(1, 1, world.now)
    world.turn()
    assert world.waits_s() == [pytest.approx(5)]
    world.dispatch.detach(1, 1)
    assert world.waits_s() == [], "nobody is there"
