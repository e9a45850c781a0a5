from __future__ import annotations

import asyncio

import pytest

from danube_client.errors import Closed, SendTimeout
from danube_client.stream.room import Deadlines, Room

ENDLESS = None


async def waiting(room: Room, size: int, timeout_s: float | None = ENDLESS) -> asyncio.Task[None]:
    """Return a task that waits for room, once it does."""
    task = asyncio.create_task(room.wait(size, timeout_s))
    await asyncio.sleep(0)
    return task


async def test_room_is_bounded_by_messages_and_by_bytes_and_one_message_always_finds_some() -> None:
    room = Room(2, 10)
    assert room.take(1000)
    assert not room.take(1)
    room.free(1, 1000)
    assert room.take(6)
    assert not room.take(5)
    assert room.take(4)
    assert not room.take(0)
    assert room.messages == 2


async def test_who_waits_for_room_gets_it_in_line_and_nobody_passes() -> None:
    room = Room(10, 10)
    assert room.take(10)
    large, small = await waiting(room, 8), await waiting(room, 1)
    room.free(1, 5)
    assert not room.take(1), "two wait already"
    room.free(0, 5)
    await asyncio.gather(large, small)
    assert room.messages == 2


async def test_who_waits_behind_one_that_gives_up_gets_room_that_is_there() -> None:
    room = Room(10, 10)
    assert room.take(8)
    large, small = await waiting(room, 5, 0.05), await waiting(room, 2)
    with pytest.raises(SendTimeout, match=r"no room for the message within 0\.05 s"):
        await large
    async with asyncio.timeout(5):
        await small
    assert room.messages == 2


async def test_one_that_is_cancelled_when_it_has_just_got_room_gives_it_back() -> None:
    room = Room(10, 10)
    assert room.take(10)
    task = await waiting(room, 4)
    room.free(1, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert room.messages == 0
    await room.until_empty()


async def test_the_end_fails_who_waits_and_leaves_no_room_taken() -> None:
    room = Room(1, 10)
    assert room.take(1)
    task = await waiting(room, 1)
    room.end(Closed("closed"))
    with pytest.raises(Closed):
        await task
    assert room.messages == 0
    await room.until_empty()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_that_has_just_got_room_at_the_end_does_not_go_on(cancelled: bool) -> None:
    room = Room(10, 10)
    assert room.take(10)
    task = await waiting(room, 4)
    room.free(1, 10)
    room.end(Closed("closed"))
    if cancelled:
        task.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else Closed):
        await task
    assert room.messages == 0
    await room.until_empty()


async def test_messages_fail_at_their_deadlines_in_turn_and_stored_ones_do_not() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(0.05)
    stored, late, later = loop.create_future(), loop.create_future(), loop.create_future()
    failed: list[asyncio.Future[int]] = []
    for outcome in (late, later):
        outcome.add_done_callback(failed.append)
    deadlines.watch(stored)
    deadlines.watch(late)
    stored.set_result(1)
    await asyncio.sleep(0.03)
    deadlines.watch(later)
    async with asyncio.timeout(5):
        await asyncio.wait([late, later])

    assert failed == [late, later]
    assert all(isinstance(outcome.exception(), SendTimeout) for outcome in failed)
    assert stored.result() == 1
