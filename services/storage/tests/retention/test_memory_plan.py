from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.log.port import LogBounds
from danube_common.model.position import end_of_sequence, position_of
from danube_common.model.strategy import Retention
from danube_storage.retention.memory_plan import MemoryTopic, purge_point, under_pressure

ACK, EXPIRE = Retention.UNTIL_ACK, Retention.UNTIL_EXPIRE
BOUNDS = LogBounds(11, 100)
EXPIRED = {60_000: 40, 1000: 70}


def acked(topic_id: int = 1, log_floor: int = 0) -> MemoryTopic:
    return MemoryTopic(topic_id, log_floor, ACK, 0)


def expiring(topic_id: int = 2, period_ms: int = 60_000, log_floor: int = 0) -> MemoryTopic:
    return MemoryTopic(topic_id, log_floor, EXPIRE, period_ms)


@pytest.mark.parametrize(
    ("topics", "floors", "pressed", "through"),
    [
        ([], {}, False, 100),
        ([expiring()], {}, False, 40),
        ([expiring(), expiring(3, 1000)], {}, False, 40),
        ([expiring(period_ms=5)], {}, False, 10),
        ([acked()], {1: end_of_sequence(50)}, False, 50),
        ([acked()], {1: position_of(50, 0, 3)}, False, 49),
        ([acked(), expiring()], {1: end_of_sequence(30)}, False, 30),
        ([acked()], {}, False, 10),
        ([acked()], None, False, 10),
        ([acked(log_floor=60)], {}, False, 60),
        ([acked()], {}, True, 100),
        ([acked()], None, True, 10),
        ([expiring()], {2: end_of_sequence(90)}, False, 40),
        ([expiring()], {2: end_of_sequence(90)}, True, 90),
        ([expiring()], {2: end_of_sequence(20)}, True, 40),
        ([expiring()], {}, True, 100),
        ([expiring()], None, True, 40),
        ([acked()], {1: end_of_sequence(101)}, False, 10),
    ],
)
def test_a_log_goes_as_far_as_the_topic_lets_it_that_keeps_the_most(
    topics: list[MemoryTopic], floors: dict[int, int] | None, pressed: bool, through: int
) -> None:
    assert purge_point(BOUNDS, topics, floors, EXPIRED, pressed=pressed).through == through


def test_the_topic_that_keeps_a_log_from_going_further_is_told() -> None:
    topics = [expiring(2, 1000), acked(1), expiring(3)]
    assert purge_point(BOUNDS, topics, {1: end_of_sequence(50)}, EXPIRED, pressed=False).holder == 3
    assert purge_point(BOUNDS, topics, {1: end_of_sequence(20)}, EXPIRED, pressed=False).holder == 1
    all_expired = {60_000: 100, 1000: 100}
    assert purge_point(BOUNDS, topics, {1: end_of_sequence(100)}, all_expired, pressed=False).holder == 0


def test_a_log_is_under_pressure_over_three_quarters_of_its_bound() -> None:
    assert not under_pressure(LogBounds(1, 9, stored_bytes=75), 100)
    assert under_pressure(LogBounds(1, 9, stored_bytes=76), 100)


@given(
    st.dictionaries(st.integers(1, 4), st.integers(0, end_of_sequence(100)) | st.none()),
    st.booleans(),
    st.integers(1, 100),
)
def test_what_a_subscription_has_not_acknowledged_stays_until_it_expires(
    floors: dict[int, int | None], pressed: bool, expired: int
) -> None:
    topics = [acked(1), acked(2), expiring(3), expiring(4)]
    known = {topic_id: floor for topic_id, floor in floors.items() if floor is not None}
    point = purge_point(BOUNDS, topics, known, {60_000: expired}, pressed=pressed)
    through = point.through
    assert (point.holder == 0) == (through == BOUNDS.last_sequence)
    assert through >= BOUNDS.first_sequence - 1
    if through >= BOUNDS.first_sequence:
        for topic_id, floor in known.items():
            assert floor >= end_of_sequence(through) or (topic_id > 2 and through <= expired)
