from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.rate_limit import BURST_S, TokenBucket

RATES = st.floats(0.05, 10_000) | st.integers(1, 10_000)
STEPS = st.lists(st.floats(0, 5), min_size=1, max_size=40)


@given(RATES, STEPS, st.data())
def test_no_span_lets_more_pass_than_its_rate_and_one_burst(
    rate: float, steps: list[float], data: st.DataObject
) -> None:
    """Over every span, as what passed before it says nothing about it."""
    bucket, now = TokenBucket(rate, 0.0), 0.0
    passed: list[tuple[float, int]] = []
    for step in steps:
        now += step
        count = int(bucket.available(now))
        taken = data.draw(st.integers(0, max(count, 0)))
        bucket.take(taken)
        passed.append((now, taken))
    burst = max(rate * BURST_S, 1.0)
    for first, (start, _) in enumerate(passed):
        for last in range(first, len(passed)):
            total = sum(count for _, count in passed[first : last + 1])
            assert total <= rate * (passed[last][0] - start) + burst + 1e-6


@given(RATES, st.integers(1, 50))
def test_callers_in_debt_are_spread_at_the_rate(rate: float, callers: int) -> None:
    bucket = TokenBucket(rate, 0.0)
    passes: list[float] = []
    for _ in range(callers):
        bucket.take(1)
        passes.append(bucket.debt_s(0.0))
    burst = max(rate * BURST_S, 1.0)
    assert passes == sorted(passes)
    for number, at in enumerate(passes, 1):
        assert number <= rate * at + burst + 1e-6


@given(RATES, STEPS)
def test_waiting_as_long_as_told_is_enough(rate: float, steps: list[float]) -> None:
    bucket, now = TokenBucket(rate, 0.0), 0.0
    for step in steps:
        bucket.take(int(max(bucket.available(now), 0)))
        now += bucket.wait_s(now) + step
        assert bucket.available(now) >= 1 - 1e-6


@given(RATES, RATES, st.floats(0, 10))
def test_a_new_rate_does_not_give_back_what_was_used(rate: float, new_rate: float, later: float) -> None:
    bucket = TokenBucket(rate, 0.0)
    bucket.take(bucket.available(0.0))
    bucket.set_rate(new_rate, 0.0)
    assert bucket.available(0.0) <= 1e-6
    assert bucket.available(later) <= max(new_rate * BURST_S, 1.0)


def test_without_a_rate_everything_passes() -> None:
    bucket = TokenBucket(0, 0.0)
    bucket.take(10**9)
    assert bucket.available(0.0) == float("inf")
    assert bucket.wait_s(0.0) == bucket.debt_s(0.0) == 0.0
    bucket.set_rate(5, 1.0)
    assert bucket.available(1.0) == 5.0
