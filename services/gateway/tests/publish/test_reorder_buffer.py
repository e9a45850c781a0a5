from __future__ import annotations

import asyncio
import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_gateway.publish import reorder_buffer
from danube_gateway.publish.reorder_buffer import HOLD_S, HOLDS_MAX, TRUST_AFTER, ReorderBuffer


class Passing:
    """Sends messages through a reorder buffer, each in its own task as a call would be."""

    def __init__(self, begun: int, first: int = 0) -> None:
        self.reorder = ReorderBuffer(first)
        self.order: list[int] = []
        for number in range(begun):
            self.reorder.passed(number)

    def come(self, number: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._pass(number))

    def come_slowly(self, number: int) -> asyncio.Task[None]:
        """As `come`, of a message that has to wait for something when it is its turn."""
        return asyncio.create_task(self._pass(number, slow=True))

    async def _pass(self, number: int, *, slow: bool = False) -> None:
        if not self.reorder.is_next(number):
            turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

            def forward() -> bool:
                if not slow:
                    self.order.append(number)
                turn.set_result(not slow)
                return not slow

            self.reorder.hold(number, turn, forward)
            if await turn:
                return
        if slow:
            await asyncio.sleep(0)
        self.order.append(number)
        self.reorder.passed(number)


async def test_a_message_that_overtook_waits_for_those_before_it() -> None:
    passing = Passing(10)
    tasks = [passing.come(number) for number in (12, 11, 13, 10)]
    await asyncio.gather(*tasks)
    assert passing.order == [10, 11, 12, 13]


async def test_a_producers_first_messages_keep_their_order_however_they_arrive() -> None:
    # Rust clients begin with 0, Go clients with 1.
    arrivals = [order for first in (0, 1) for order in permutations(range(first, first + 4))]

    async def arrive(order: tuple[int, ...]) -> list[int]:
        passing = Passing(0)
        await asyncio.gather(*(passing.come(number) for number in order))
        return passing.order

    passed = await asyncio.gather(*(arrive(order) for order in arrivals))
    assert passed == [sorted(order) for order in arrivals]


@given(
    st.integers(0, 1),
    st.permutations(range(12)),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.sets(st.integers(0, 12)),
)
def test_messages_pass_in_order_in_whatever_order_and_turns_they_come(
    first: int, arrivals: list[int], turns: list[int], slow: set[int]
) -> None:
    async def arrive() -> list[int]:
        passing = Passing(0, first)
        tasks = []
        for number, pause in zip(arrivals, turns, strict=True):
            come = passing.come_slowly if first + number in slow else passing.come
            tasks.append(come(first + number))
            for _ in range(pause):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return passing.order

    assert asyncio.run(arrive()) == list(range(first, first + 12))


async def test_all_that_waited_for_a_message_leave_with_it() -> None:
    passing = Passing(10)
    waiting = [passing.come(number) for number in (12, 11, 13)]
    await asyncio.sleep(0)
    passing.order.append(10)
    passing.reorder.passed(10)
    assert passing.order == [10, 11, 12, 13], "in one step"
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("first", [0, 1])
async def test_the_first_message_of_a_producer_that_counts_as_expected_does_not_wait(first: int) -> None:
    passing = Passing(0, first)
    assert passing.reorder.is_next(first)
    passing.reorder.passed(first)
    assert passing.reorder.is_next(first + 1)
    assert not passing.reorder.is_next(first + 2)


@pytest.mark.parametrize(
    "numbers",
    [range(4), range(1, 5), range(7, 11), range(10, 14)],
    ids=["from the beginning", "from 1", "the last ones again", "where it stopped"],
)
async def test_a_producer_that_was_created_again_keeps_its_order_wherever_it_begins(numbers: range) -> None:
    async def arrive(order: tuple[int, ...]) -> list[int]:
        passing = Passing(10)
        passing.reorder.begin_again()
        await asyncio.gather(*(passing.come(number) for number in order))
        return passing.order

    arrivals = list(permutations(numbers))
    passed = await asyncio.gather(*(arrive(order) for order in arrivals))
    assert passed == [sorted(order) for order in arrivals]


async def test_a_process_that_stood_still_keeps_the_order_of_what_came_meanwhile() -> None:
    passing = Passing(10)
    early = passing.come(30)
    await asyncio.sleep(0)
    # Nothing is read while the process stands still; then it takes some turns of the loop to hand it over.
    time.sleep(HOLD_S * 2.5)  # noqa: ASYNC251 - standing still is the point
    for _ in range(10):
        await asyncio.sleep(0)
    late = [passing.come(number) for number in range(10, 30)]
    await asyncio.gather(early, *late)
    assert passing.order == list(range(10, 31))


async def test_a_message_waits_as_long_as_earlier_ones_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 3600.0)
    monkeypatch.setattr(reorder_buffer, "HOLDS_MAX", 10_000)
    passing = Passing(10)
    early = passing.come(30)
    for number in range(10, 30):
        await passing.come(number)
        passing.reorder.hold_over()
        assert number == 29 or not early.done()
    await early
    assert passing.order == list(range(10, 31))


async def test_no_message_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HOLD_S * HOLDS_MAX <= 2.0
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 0.002)
    passing = Passing(10)
    early = passing.come(1_000_000)
    number = 10
    while not early.done():
        await passing.come(number)
        number += 1
        await asyncio.sleep(0.001)
    assert 1_000_000 in passing.order


async def test_what_a_producer_sends_first_after_its_gateway_died_keeps_its_order() -> None:
    passing = Passing(0)
    await asyncio.gather(*(passing.come(number) for number in (5004, 5001, 5003, 5002)))
    await asyncio.gather(*(passing.come(number) for number in (5007, 5006, 5005)))
    assert passing.order == list(range(5001, 5008))


async def test_a_young_producers_resent_burst_keeps_its_order_however_late_its_parts_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 0.02)
    passing = Passing(0)
    first = [passing.come(number) for number in (502, 500, 503)]
    await first[1]
    await asyncio.gather(*[passing.come(number) for number in (505, 504, 501)], *first)
    assert passing.order == [500, 501, 502, 503, 504, 505]


async def test_a_producer_that_does_not_count_is_held_up_for_moments_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 0.002)
    passing = Passing(0)
    for number in (70_000, 1_000, 90_000, 80_000):
        await passing.come(number)
    assert passing.order == [70_000, 1_000, 90_000, 80_000]


async def test_what_waited_in_vain_goes_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 0.002)
    passing = Passing(10)
    await asyncio.gather(*(passing.come(number) for number in (14, 12, 11, 13)))
    assert passing.order == [11, 12, 13, 14]


async def test_a_call_that_was_given_up_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder_buffer, "HOLD_S", 0.002)
    passing = Passing(10)
    given_up, waiting = passing.come(11), passing.come(12)
    await asyncio.sleep(0)
    given_up.cancel()
    await passing.come(10)
    assert passing.reorder.is_next(12), "without a wait"
    await waiting
    assert passing.order == [10, 12]


@pytest.mark.parametrize("again", [8, 9, 0], ids=["one before", "the last", "the first"])
async def test_a_message_that_is_sent_again_passes_and_changes_nothing(again: int) -> None:
    passing = Passing(10)
    await passing.come(again)
    assert passing.reorder.is_next(10)
    assert not passing.reorder.is_next(11)


async def test_a_producer_that_went_back_far_is_believed_again_after_some_consecutive_numbers() -> None:
    passing = Passing(0)
    passing.reorder.passed(1_000_000)
    for number in range(TRUST_AFTER + 1):
        assert passing.reorder.is_next(number + 1), "not believed yet"
        await passing.come(number)
    assert not passing.reorder.is_next(TRUST_AFTER + 2)


async def test_the_greatest_number_is_that_of_what_waits_or_was_forwarded() -> None:
    passing = Passing(0)
    assert passing.reorder.highest == -1
    await passing.come(0)
    waiting = passing.come(5)
    await asyncio.sleep(0)
    assert passing.reorder.highest == 5
    waiting.cancel()
