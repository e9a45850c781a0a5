from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_client import Retry


@given(st.integers(1, 10_000))
def test_a_pause_is_positive_and_bounded(failures: int) -> None:
    retry = Retry(first_s=0.1, max_s=2.0)
    assert 0 < retry.pause_s(failures) <= 2.0


def test_pauses_double_up_to_the_bound() -> None:
    retry = Retry(first_s=0.1, max_s=1.0)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    for failures, bound in enumerate(bounds, start=1):
        assert bound / 2 <= retry.pause_s(failures) <= bound


def test_the_defaults_outwait_the_replacement_of_a_dead_instance() -> None:
    retry = Retry()
    least_s = sum(min(retry.max_s, retry.first_s * 2**n) for n in range(retry.attempts_max - 1)) / 2
    assert least_s > 7.5
