from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from danube_topic_owner.delivery.stored_times import SAMPLE_MS, SAMPLES_MAX, StoredTimes


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.data())
def test_the_age_of_a_frame_is_never_too_great_and_nearly_exact(
    steps: list[int], data: st.DataObject
) -> None:
    times, stored, now_ms = StoredTimes(), [], 1_000_000
    for sequence, step in enumerate(steps, 1):
        now_ms += step
        stored.append(now_ms)
        times.add(sequence, now_ms)
    sequence = data.draw(st.integers(1, len(steps)))
    true_s = (now_ms - stored[sequence - 1]) / 1000
    later_s = max(((after - before) / 1000 for before, after in pairwise(stored)), default=0)
    assert true_s - SAMPLE_MS / 1000 - later_s <= times.age_s(sequence, now_ms) <= true_s


def test_samples_are_bounded_and_what_is_older_than_all_has_a_lower_bound() -> None:
    times = StoredTimes()
    for sequence in range(1, 2 * SAMPLES_MAX + 1):
        times.add(sequence, sequence * SAMPLE_MS)
    now_ms = 2 * SAMPLES_MAX * SAMPLE_MS
    assert times.age_s(1, now_ms) == SAMPLES_MAX - 1
    assert times.age_s(2 * SAMPLES_MAX + 1, now_ms) == 0
    times.clear()
    assert times.age_s(1, now_ms) == 0
