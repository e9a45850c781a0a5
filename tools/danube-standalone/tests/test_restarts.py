from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_standalone.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy(first_s=0.1, factor=2, wait_s_max=1, settled_s=30)


def test_a_program_that_keeps_failing_is_started_ever_later_up_to_the_bound() -> None:
    restarts = Restarts(POLICY)
    assert [restarts.ended(ran_s=0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1, 1]


def test_a_program_that_ran_well_is_started_again_soon() -> None:
    restarts = Restarts(POLICY)
    for _ in range(10):
        restarts.ended(ran_s=0)
    assert restarts.ended(ran_s=30) == 0.1
    assert restarts.ended(ran_s=29) == 0.2


@given(st.lists(st.floats(min_value=0, max_value=1000)))
def test_every_wait_stays_within_first_and_bound(runs: list[float]) -> None:
    restarts = Restarts(POLICY)
    for ran_s in runs:
        assert POLICY.first_s <= restarts.ended(ran_s) <= POLICY.wait_s_max
