from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_gateway.publish.sequences import SEQUENCE_MAX, Sequences, Window

COUNTS = st.lists(st.integers(1, 50), min_size=1, max_size=20)


@given(COUNTS, st.data())
def test_everything_up_to_an_answer_is_answered_and_in_the_end_all_is(
    counts: list[int], data: st.DataObject
) -> None:
    """Answers come in any order, as refusals overtake what is on its way."""
    sequences = Sequences()
    lasts = []
    first = data.draw(st.integers(1, 100))
    for count in counts:
        assert sequences.take(first, count)
        first += count
        lasts.append(first - 1)
        first += data.draw(st.integers(0, 3))
    answered: set[int] = set()
    through = 0
    for last in data.draw(st.permutations(lasts)):
        answered.add(last)
        moved = sequences.answer(last)
        assert not moved or moved > through
        through = moved or through
        open_ = [each for each in lasts if each not in answered]
        assert all(each > through for each in open_)
        assert through == max((each for each in answered if not open_ or each < open_[0]), default=0)
    assert through == lasts[-1]


@given(COUNTS, st.integers(0, 20), COUNTS)
def test_what_was_stored_before_is_not_new_when_it_is_sent_again(
    counts: list[int], stored: int, more: list[int]
) -> None:
    bounds = [0]
    for count in [*counts, *more]:
        bounds.append(bounds[-1] + count)
    stored = min(stored, len(bounds) - 1)
    sequences = Sequences(bounds[stored])
    fresh = [sequences.take(first + 1, last - first) for first, last in pairwise(bounds)]
    assert fresh == [number >= stored for number in range(len(fresh))]


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 200), st.integers(1, 100))
def test_a_batch_that_goes_back_is_refused(first: int, count: int, again: int, others: int) -> None:
    sequences = Sequences()
    sequences.take(first, count)
    if again < first + count:
        with pytest.raises(InvalidInput):
            sequences.take(again, others)
    else:
        assert sequences.take(again, others)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 0), (SEQUENCE_MAX, 2), (1 << 63, 1)])
def test_sequences_that_cannot_be_are_refused(first: int, count: int) -> None:
    with pytest.raises(InvalidInput):
        Sequences().take(first, count)
    assert Sequences().take(SEQUENCE_MAX, 1)


def test_a_batch_that_was_stored_in_part_is_refused() -> None:
    with pytest.raises(InvalidInput, match="stored up to 5"):
        Sequences(5).take(4, 3)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 1000)), max_size=30))
def test_a_window_has_room_for_one_batch_and_else_keeps_its_bounds(batches: list[tuple[int, int]]) -> None:
    window = Window(150, 1500)
    held: list[tuple[int, int]] = []
    for batch in batches:
        while not window.has_room(*batch):
            assert held
            window.release(*held.pop(0))
        window.take(*batch)
        held.append(batch)
        assert len(held) == 1 or (window.messages <= 150 and window.bytes <= 1500)
    for batch in held:
        window.release(*batch)
    assert (window.messages, window.bytes) == (0, 0)
