"""Schedules, payloads, latencies, the timeline: the pure parts that figures come from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_perf.latency import HIGHEST_US, Latencies
from danube_perf.payload import SIZE_BYTES_MIN, Clock, Stamp, filling, stamp_of, stamped
from danube_perf.process_usage import Watched
from danube_perf.schedule import Schedule
from danube_perf.timeline import Point, Timeline


def test_a_late_message_counts_from_when_it_was_due() -> None:
    schedule = Schedule(begin_ns=0, rate=1000.0)
    assert schedule.take(0) == 0
    assert schedule.take(0) is None
    # The platform stood still for 5 ms: all that was due meanwhile is sent, and counts from its own time.
    assert [schedule.take(5_000_000) for _ in range(6)] == [
        *(number * 1_000_000 for number in range(1, 6)),
        None,
    ]
    assert schedule.behind_ns == 4_000_000


def test_flat_out_a_message_counts_from_now() -> None:
    schedule = Schedule(begin_ns=5, rate=None)
    assert [schedule.take(4), schedule.take(7), schedule.take(9)] == [None, 7, 9]
    assert (schedule.sent, schedule.behind_ns) == (2, 0)


@given(
    run=st.integers(0, 2**64 - 1),
    producer=st.integers(0, 2**32 - 1),
    number=st.integers(0, 2**64 - 1),
    size=st.integers(SIZE_BYTES_MIN, 2000),
)
def test_a_payload_tells_what_it_is_and_has_its_size(run: int, producer: int, number: int, size: int) -> None:
    payload = stamped(run, producer, number, 5, filling(size))
    assert len(payload) == size
    assert stamp_of(payload) == Stamp(run, producer, number, 5)


@given(st.binary(max_size=100))
def test_other_payloads_have_no_stamp(payload: bytes) -> None:
    assert stamp_of(b"#" + payload) is None


def test_a_payload_too_small_for_a_stamp_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        filling(SIZE_BYTES_MIN - 1)


def test_the_clock_never_goes_back() -> None:
    clock = Clock()
    taken = [clock.now_ns() for _ in range(100)]
    assert taken == sorted(taken)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=20))
def test_latencies_of_processes_add_up_to_three_digits(values_us: list[int]) -> None:
    one, other = Latencies(), Latencies()
    for number, value in enumerate(values_us):
        (one, other)[number % 2].note(value * 1000)
    total = Latencies.of(one.interval(), other.interval())
    exact = sorted(min(value, HIGHEST_US) for value in values_us)
    assert total.count == len(values_us)
    assert total.summary()["max"] == pytest.approx(exact[-1], rel=2e-3)
    assert total.at(0) == pytest.approx(exact[0], rel=2e-3)
    assert total.summary()["p50"] in [pytest.approx(value, rel=2e-3) for value in exact]


def test_without_a_message_there_is_no_latency() -> None:
    assert Latencies().summary() == {"count": 0}
    assert Latencies().at(50) == 0


@given(count=st.integers(0, 400))
def test_a_timeline_is_bounded_and_loses_nothing_but_its_last_points(count: int) -> None:
    timeline = Timeline(points_max=10)
    for second in range(count):
        timeline.add(Point(float(second), 1.0, 3, 2, second, second))
    points = timeline.points
    assert len(points) <= 10
    covered = sum(point.seconds for point in points)
    assert sum(point.produced for point in points) == 3 * covered
    assert covered > count - max((point.seconds for point in points), default=1.0)
    assert [point.begin_s for point in points] == sorted(point.begin_s for point in points)


def test_a_process_that_is_gone_has_no_figures() -> None:
    watched = Watched("gone", [2**22 + 1])
    watched.begin()
    assert watched.gone
