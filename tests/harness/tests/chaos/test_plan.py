from __future__ import annotations

import itertools

import pytest

from danube_harness.chaos.plan import SETTLE_S, Hazard, plan

HAZARDS = [
    Hazard("kill", ("gateway", "gateway-2"), core=True),
    Hazard("pause", ("owner", "owner-2"), (6.0, 9.0), core=True),
    *(Hazard(f"fault {number}", ("one", "two", "three"), (0.0, 8.0)) for number in range(30)),
]
SEEDS = range(50)


def test_the_same_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert plan(7, 600, HAZARDS) == plan(7, 600, HAZARDS)
    assert len({tuple(plan(seed, 600, HAZARDS)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("duration_s", [1, 30, 120, 1800])
def test_every_fault_is_over_in_time_and_follows_the_ones_before(duration_s: float) -> None:
    for seed in SEEDS:
        strikes = plan(seed, duration_s, HAZARDS)
        assert all(strike.at_s >= 0 and strike.end_s <= duration_s for strike in strikes)
        assert [strike.at_s for strike in strikes] == sorted(strike.at_s for strike in strikes)


def test_faults_that_overlap_meet_different_targets() -> None:
    overlaps = 0
    for seed in SEEDS:
        for first, second in itertools.pairwise(plan(seed, 1800, HAZARDS)):
            if second.at_s < first.end_s:
                overlaps += 1
                assert first.target != second.target
    assert overlaps


def test_each_fault_comes_before_any_comes_again() -> None:
    for seed in SEEDS:
        faults = [strike.fault for strike in plan(seed, 3600, HAZARDS)]
        assert len(faults) > 2 * len(HAZARDS)
        assert set(faults[: len(HAZARDS)]) == {hazard.fault for hazard in HAZARDS}


def test_a_short_plan_keeps_what_is_at_the_core() -> None:
    room_s = SETTLE_S[1] + 2 * (9.0 + SETTLE_S[1])
    for seed in SEEDS:
        faults = {strike.fault for strike in plan(seed, room_s, HAZARDS)}
        assert {"kill", "pause"} <= faults


def test_without_hazards_nothing_happens() -> None:
    assert plan(1, 120, []) == []
