from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_perf import integrity as module
from danube_perf.integrity import Counts, Integrity, ProducerLine


@given(arrivals=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20))), sent=st.integers(0, 25))
def test_counts_are_those_of_a_set_of_all_that_came(arrivals: list[tuple[int, int]], sent: int) -> None:
    tracked = Integrity()
    seen: set[tuple[int, int]] = set()
    highest: dict[int, int] = {}
    expected = Counts(received=len(arrivals))
    for producer, number in arrivals:
        first = tracked.take(producer, number)
        assert first == ((producer, number) not in seen)
        if not first:
            expected.duplicated += 1
        elif number < highest.get(producer, -1):
            expected.reordered += 1
        seen.add((producer, number))
        highest[producer] = max(highest.get(producer, -1), number)
    for producer in range(3):
        numbers = max(sent, highest.get(producer, -1) + 1)
        expected.lost += sum((producer, number) not in seen for number in range(numbers))
    everything = dict.fromkeys(range(3), sent)
    assert tracked.counts(everything) == expected
    assert tracked.complete(everything) == (expected.lost == 0)


def test_a_number_whose_publish_failed_is_not_lost_if_it_does_not_come() -> None:
    tracked = Integrity()
    for number in (0, 1, 4):
        tracked.take(0, number)
    tracked.excuse(0, [2, 6])
    tracked.excuse(1, [0])
    assert tracked.counts({0: 7, 1: 2}) == Counts(received=3, lost=3)


def test_gaps_are_bounded_and_forgotten_ones_count_as_lost() -> None:
    line = ProducerLine()
    for number in range(0, 4 * module.GAPS_MAX, 2):
        line.take(number)
    assert len(line.gaps) == module.GAPS_MAX
    assert line.missing() == 2 * module.GAPS_MAX - 1
    assert line.take(1) == "again"


def test_a_reader_that_begins_later_misses_nothing_before() -> None:
    tracked = Integrity()
    tracked.begin_at(0, 1000)
    tracked.take(0, 1000)
    tracked.take(0, 1002)
    tracked.begin_at(0, 0)
    assert tracked.counts() == Counts(received=2, lost=1)
