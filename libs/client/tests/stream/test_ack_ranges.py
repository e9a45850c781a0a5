from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from danube_client.stream.ack_ranges import AckRanges, contains, merged

POSITIONS = st.lists(st.integers(1, 60), max_size=80)


@given(POSITIONS)
def test_every_acknowledged_position_is_in_the_ranges_and_no_other(positions: list[int]) -> None:
    ranges = AckRanges()
    for position in positions:
        ranges.add(position)
    assert ranges.count == len(positions)
    taken = ranges.take()
    assert {p for first, last in taken for p in range(first, last + 1)} == set(positions)
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(taken))
    assert all(contains(taken, p) == (p in positions) for p in range(62))
    assert ranges.take() == []
    assert ranges.count == 0


@given(POSITIONS, POSITIONS)
def test_ranges_that_come_back_merge_with_those_that_were_added(one: list[int], other: list[int]) -> None:
    ranges = AckRanges()
    for position in one:
        ranges.add(position)
    ranges.extend(merged((position, position) for position in other))
    assert ranges.take() == merged((position, position) for position in [*one, *other])


def test_positions_in_order_are_one_range() -> None:
    ranges = AckRanges()
    for position in range(7, 1007):
        ranges.add(position)
    assert ranges.take() == [(7, 1006)]
