from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.metadata.history import SAMPLES_MAX, RevisionsSeen


def test_a_revision_older_than_every_sample_is_unknown() -> None:
    seen = RevisionsSeen(valid_s=100)
    assert seen.known_at(5) is None
    seen.note(10, at=1)
    assert seen.known_at(9) is None
    assert seen.known_at(10) == 1
    assert seen.known_at(11) == 1


def test_the_latest_fitting_sample_counts() -> None:
    seen = RevisionsSeen(valid_s=100)
    seen.note(10, at=1)
    seen.note(20, at=50)
    assert seen.known_at(15) == 1
    assert seen.known_at(25) == 50


def test_a_recent_revision_is_known_however_many_were_seen() -> None:
    seen = RevisionsSeen(valid_s=100)
    for second in range(10_000):
        seen.note(second * 3, at=second)
    known_at = seen.known_at(9_950 * 3)
    assert known_at is not None
    assert 9_950 - 2 * 100 / SAMPLES_MAX <= known_at <= 9_950


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 5)), max_size=200),
    st.integers(0, 500),
)
def test_no_later_change_was_made_before_the_time_told(steps: list[tuple[float, int]], asked: int) -> None:
    seen = RevisionsSeen(valid_s=100)
    now, revision = 0.0, 0
    made_at: list[float] = []
    for pause_s, changes in steps:
        seen.note(revision, now)
        now += pause_s
        made_at += [now] * changes
        revision += changes
    known_at = seen.known_at(asked)
    if known_at is not None:
        assert all(at >= known_at for at in made_at[asked:])
