from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_topic_owner.delivery.ack_progress import MARKS_MAX, AckProgress, Overdue

TIMEOUT_S = 30.0
NOTHING = Overdue(-1, silent=False)


def test_a_consumer_that_works_through_what_it_read_ahead_fails_nothing() -> None:
    """It has a thousand messages of many deliveries, and takes a second for each."""
    progress = AckProgress()
    for second in range(1000):
        assert progress.check(float(second), TIMEOUT_S).silent is False
        progress.acked(1)
    assert progress.check(1000.0, TIMEOUT_S) == NOTHING


def test_a_consumer_that_acknowledges_nothing_is_silent_after_the_timeout_and_not_before() -> None:
    progress = AckProgress()
    assert progress.check(0.0, TIMEOUT_S) == NOTHING
    assert progress.check(29.9, TIMEOUT_S) == NOTHING
    assert progress.check(30.0, TIMEOUT_S) == Overdue(-1, silent=True)
    progress.begin()
    assert progress.check(31.0, TIMEOUT_S) == NOTHING
    assert progress.check(60.9, TIMEOUT_S) == NOTHING
    assert progress.check(61.0, TIMEOUT_S).silent


def test_what_was_overtaken_is_overdue_although_later_messages_are_acknowledged() -> None:
    progress = AckProgress()
    progress.check(0.0, TIMEOUT_S)
    for second in range(1, 31):
        progress.acked(second)
        assert progress.check(float(second), TIMEOUT_S) == NOTHING
    for second in range(31, 60):
        progress.acked(second)
        overdue = progress.check(float(second), TIMEOUT_S)
        assert not overdue.silent
        assert overdue.through <= second - 30 - 1, "it was delivered before what was acknowledged 30 s ago"
    assert overdue.through >= 60 - 30 - 1 - 2 * TIMEOUT_S / MARKS_MAX


@given(
    st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 5), st.booleans()), max_size=60),
    st.sampled_from([1.0, 30.0]),
)
def test_nothing_is_overdue_early_and_everything_in_the_end(
    steps: list[tuple[float, int, bool]], timeout_s: float
) -> None:
    progress = AckProgress()
    now = moved_at = 0.0
    acked: list[tuple[float, int]] = []
    progress.check(now, timeout_s)
    number = through = 0
    for wait, ahead, acknowledges in steps:
        now += wait
        number += ahead
        if acknowledges:
            progress.acked(number)
            moved_at = now
            acked.append((now, number))
        overdue = progress.check(now, timeout_s)
        assert len(progress._marks) <= MARKS_MAX + 1
        assert overdue.silent is (now - moved_at >= timeout_s)
        may = max((n for at, n in acked if now - at >= timeout_s), default=0) - 1
        assert overdue.through <= may
        through = max(through, overdue.through)
    for part in range(MARKS_MAX + 2):
        through = max(through, progress.check(now + timeout_s * (1 + part / 8), timeout_s).through)
    assert through >= max((n for _, n in acked), default=0) - 1
