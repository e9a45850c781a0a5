from __future__ import annotations

import asyncio
import time
from itertools import permutations

import pytest

from danube_gateway.publish import reorder_buffer as producer_line
from danube_gateway.publish.reorder_buffer import HOLD_S_MAX, ReorderBuffer


class Passing:
    """Sends messages through a reorder buffer, each in its own task as a call would be."""

    def __init__(self, begun: int) -> None:
        self.reorder = ReorderBuffer()
        self.order: list[int] = []
        for number in range(begun):
            self.reorder.passed(number)

    def come(self, number: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._pass(number))

    async def _pass(self, number: int) -> None:
        await self.reorder.turn(number)
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
    time.sleep(HOLD_S_MAX * 1.2)  # noqa: ASYNC251 - standing still is the point
    for _ in range(10):
        await asyncio.sleep(0)
    late = [passing.come(number) for number in range(10, 30)]
    await asyncio.gather(early, *late)
    assert passing.order == list(range(10, 31))


async def test_a_message_waits_as_long_as_earlier_ones_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.05)
    passing = Passing(10)
    early = passing.come(30)
    for number in range(10, 30):
        await asyncio.sleep(producer_line.HOLD_S_MAX / producer_line.HOLD_PARTS)
        await passing.come(number)
    await early
    assert passing.order == list(range(10, 31))


async def test_no_message_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.01)
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
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.05)
    passing = Passing(0)
    first = [passing.come(number) for number in (502, 500, 503)]
    await first[1]
    await asyncio.gather(*[passing.come(number) for number in (505, 504, 501)], *first)
    assert passing.order == [500, 501, 502, 503, 504, 505]


async def test_a_producer_that_does_not_count_is_held_up_for_moments_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.01)
    passing = Passing(0)
    for number in (70_000, 1_000, 90_000, 80_000):
        await passing.come(number)
    assert passing.order == [70_000, 1_000, 90_000, 80_000]


async def test_what_waited_in_vain_goes_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.01)
    passing = Passing(10)
    await asyncio.gather(*(passing.come(number) for number in (14, 12, 11, 13)))
    assert passing.order == [11, 12, 13, 14]


async def test_a_call_that_was_given_up_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_line, "HOLD_S_MAX", 0.01)
    passing = Passing(10)
    given_up, waiting = passing.come(11), passing.come(12)
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(passing.come(10), waiting)
    assert passing.order == [10, 12]
