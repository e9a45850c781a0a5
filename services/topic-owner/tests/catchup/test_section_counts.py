from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.position import BEFORE_ALL, position_of
from danube_topic_owner.catchup.section_counts import SectionCounts

SECTIONS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=30)


@given(SECTIONS, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_a_count_is_exact_or_unknown(
    sections: list[tuple[int, int]], after: int, through: int, forgotten: int, rows_max: int
) -> None:
    passed = SectionCounts(rows_max)
    for sequence, (topic_id, messages) in enumerate(sections, start=1):
        passed.note(topic_id, position_of(sequence, 0, 0), messages)
    passed.forget(position_of(forgotten, 0, 0))
    begin, end = position_of(after, 0, 1), position_of(through, 1, 0)
    for topic_id in (1, 2, 3):
        counted = passed.count(topic_id, begin, end)
        if counted is None:
            assert after <= max(forgotten, len(sections) - rows_max)
            continue
        expected = sum(
            position_of(sequence, 0, 0) + index > begin
            for sequence, (topic, messages) in enumerate(sections, start=1)
            for index in range(messages)
            if topic == topic_id and sequence <= through
        )
        assert counted == expected


def test_nothing_is_known_of_what_went_by_before() -> None:
    passed = SectionCounts()
    assert passed.count(1, BEFORE_ALL, position_of(9, 0, 0)) == 0
    passed.start(position_of(5, 0, 0))
    assert passed.count(1, position_of(5, 0, 0) - 1, position_of(9, 0, 0)) is None
    assert passed.count(1, position_of(5, 0, 0), position_of(9, 0, 0)) == 0
