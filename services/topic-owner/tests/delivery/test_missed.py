from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_topic_owner.delivery.missed import MARKS_MAX, Missed

FRAMES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=3 * MARKS_MAX)


@given(FRAMES, st.integers(0, 50), st.integers(0, 400))
def test_what_passed_is_never_overcounted_and_is_exact_for_few_frames(
    steps: list[tuple[int, int]], next_sequence: int, last: int
) -> None:
    missed, passed, sequence = Missed(), dict[int, int](), 1
    for step, count in steps:
        sequence += step
        missed.add(sequence, count, next_sequence=0)
        passed[sequence] = passed.get(sequence, 0) + count
    exact = sum(count for sequence, count in passed.items() if next_sequence <= sequence <= last)
    counted = missed.between(next_sequence, last)
    assert counted <= exact
    if len(passed) <= MARKS_MAX or (next_sequence <= 1 and last >= sequence):
        assert counted == exact
    assert len(missed._marks) <= MARKS_MAX


def test_what_is_read_makes_room() -> None:
    missed = Missed()
    for sequence in range(1, 10 * MARKS_MAX):
        missed.add(sequence, 1, next_sequence=sequence)
    assert missed.between(0, 10 * MARKS_MAX) == 1
    missed.clear()
    assert missed.between(0, 10 * MARKS_MAX) == 0
