from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from danube_client.stream.ack_ranges import AckRanges, contains, merged

POSITIONS = st.lists(st.integers(1, 60), max_size=80)
NEARLY_ADJACENT = st.tuples(st.integers(20, 30), st.lists(st.integers(20, 40), max_size=4)).map(
    lambda drawn: [drawn[0], *drawn[1], drawn[0] + len(drawn[1]) + 1]
)
"""First and last are as far apart as if those between them were adjacent."""


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


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5) | NEARLY_ADJACENT, max_size=9))
def test_positions_that_are_added_together_are_those_and_no_others(batches: list[list[int]]) -> None:
    ranges = AckRanges()
    for batch in batches:
        ranges.add_all(batch)
    assert ranges.count == sum(map(len, batches))
    assert ranges.take() == merged((position, position) for batch in batches for position in batch)


def test_positions_far_apart_are_added_together() -> None:
    ranges = AckRanges()
    ranges.add_all([1, 2, 1 << 60])
    assert ranges.take() == [(1, 2), (1 << 60, 1 << 60)]


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
