from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.position import BEFORE_ALL
from danube_common.model.run import COPY_BELOW, Run, back_to_back

MESSAGES = st.lists(st.binary(max_size=12), min_size=1, max_size=12)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Run, list[tuple[int, bytes]]]:
    """A run that is a slice of a section, and what it holds."""
    messages = draw(MESSAGES)
    first = draw(st.just(BEFORE_ALL) | st.integers(1, 1 << 62))
    low = draw(st.integers(0, len(messages) - 1))
    high = draw(st.integers(low + 1, len(messages)))
    run = Run.of(first, messages).tail(low).head(high - low)
    at = first + low if first else BEFORE_ALL
    return run, [(at + n if first else at, message) for n, message in enumerate(messages[low:high])]


@given(runs(), st.data())
def test_slices_of_a_run_hold_its_messages_and_positions(
    given_run: tuple[Run, list[tuple[int, bytes]]], data: st.DataObject
) -> None:
    run, entries = given_run
    count = data.draw(st.integers(0, len(entries) + 2))
    assert list(run.entries()) == entries
    assert list(run.head(count).entries()) == entries[:count]
    if count < len(entries):
        assert list(run.tail(count).entries()) == entries[count:]
    for each in (run, run.head(max(count, 1))):
        assert each.body() == b"".join(each.messages())
        assert each.size == len(each.body())
    assert (run.first, run.last) == (entries[0][0], entries[-1][0])
    if run.first:
        first, last = sorted(data.draw(st.tuples(*[st.integers(run.first, run.last)] * 2)))
        assert list(run.part(first, last).entries()) == [e for e in entries if first <= e[0] <= last]


@given(runs(), st.integers(-3, 60))
def test_a_run_counts_messages_by_bytes(given_run: tuple[Run, list[tuple[int, bytes]]], size: int) -> None:
    run, entries = given_run
    sizes = [len(message) for _, message in entries]
    within = [n for n in range(len(sizes) + 1) if sum(sizes[:n]) <= size]
    assert size < 0 or run.count_within(size) == within[-1]
    until = [n for n in range(len(sizes)) if sum(sizes[:n]) < size]
    assert run.count_until(size) == len(until)


@given(runs())
def test_a_run_keeps_little_more_than_its_messages_in_memory(
    given_run: tuple[Run, list[tuple[int, bytes]]],
) -> None:
    run, entries = given_run
    owned = run.owned()
    assert list(owned.entries()) == entries
    assert len(owned.data) <= COPY_BELOW * owned.size
    assert len(owned.ends) <= COPY_BELOW * len(owned)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(1, 4)), max_size=8))
def test_runs_that_lie_back_to_back_are_few_with_the_same_messages(parts: list[tuple[int, int, int]]) -> None:
    sections = [Run.of(100 * number + 1, [b"%d %d" % (number, at) for at in range(8)]) for number in range(3)]
    runs = [sections[number].tail(low).head(count) for number, low, count in parts]
    found = back_to_back(runs)
    assert [each for run in found for each in run.messages()] == [e for run in runs for e in run.messages()]
    for before, after in pairwise(found):
        assert before.data is not after.data or before.high != after.low


def test_empty_messages_of_two_sections_stay_apart() -> None:
    # Equal empty bytes are one object: they do not say that two runs are of one section.
    found = back_to_back([Run(1, (0,), 0, 1, b""), Run(9, (0, 0), 1, 2, b"")])
    assert [run.messages() for run in found] == [[b""], [b""]]


def test_a_run_without_messages_is_a_stretch_of_its_own() -> None:
    empty, one = Run(7, (), 0, 0, b""), Run(9, (2,), 0, 1, b"ab")
    assert back_to_back([empty, one, empty]) == [empty, one, empty]
