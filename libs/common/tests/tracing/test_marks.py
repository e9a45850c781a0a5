"""Marks travel as text, and what is known of marked messages is found by position within a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.nats.connection import HEADER_BYTES_MAX
from danube_common.tracing.context import TraceContext
from danube_common.tracing.marks import (
    MARKS_MAX,
    Mark,
    Marked,
    encode_marks,
    encode_marks_by_consumer,
    parse_marks,
    parse_marks_by_consumer,
)

CONTEXTS = st.builds(TraceContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
MARKS = st.lists(st.builds(Mark, st.integers(0, 2**63 - 1), CONTEXTS), max_size=MARKS_MAX)


@given(MARKS)
def test_marks_come_back_from_their_text(marks: list[Mark]) -> None:
    text = encode_marks(marks)
    assert parse_marks(text) == marks
    assert " " not in text


@given(st.text())
def test_text_that_has_no_marks_is_never_an_error(text: str) -> None:
    assert parse_marks(text) == []


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), MARKS), min_size=1))
def test_marks_of_several_consumers_come_back(told: list[tuple[int, list[Mark]]]) -> None:
    assert parse_marks_by_consumer(encode_marks_by_consumer(told)) == told
    assert parse_marks_by_consumer("x=;;=") == []


def test_more_marks_than_the_bound_are_left_out() -> None:
    mark = Mark(1, TraceContext(2, 3))
    assert parse_marks(encode_marks([mark] * (MARKS_MAX + 9))) == [mark] * MARKS_MAX


def test_as_many_marks_as_there_may_be_fit_the_room_for_headers_with_others() -> None:
    longest = Mark(2**63 - 1, TraceContext(2**128 - 1, 2**64 - 1))
    text = encode_marks_by_consumer([(2**63 - 1, [longest])] * MARKS_MAX)
    assert len(text) <= HEADER_BYTES_MAX - 512


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30))), st.integers(1, 8))
def test_what_was_noted_last_is_found_by_position(steps: list[tuple[bool, int]], size_max: int) -> None:
    marked, model = Marked[int](size_max), dict[int, int]()
    for number, (noted, position) in enumerate(steps):
        if noted:
            marked.note(position, number)
            model[position] = number
        else:
            found = marked.take(position)
            assert found in (None, model.get(position))
            model.pop(position, None)
        found_all = dict(marked.between(1, 30))
        assert len(marked) == len(found_all) <= size_max
        assert found_all.items() <= model.items()
        assert marked.between(10, 20) == [(at, model[at]) for at in sorted(found_all) if 10 <= at <= 20]
    if len(steps) <= size_max:
        assert dict(marked.between(1, 30)) == model
