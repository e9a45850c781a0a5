from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from danube_common.rpc.first_step import ENDED, Later, run_first_steps
from danube_common.rpc.port import Call, Methods
from danube_harness.rpc.calls import Serve, connect

Body = Callable[[], Coroutine[Any, Any, None]]


async def call(body: Body) -> None:
    """Be what the server hands over."""
    await body()


async def another(body: Body) -> None:
    """Be any other coroutine."""
    await body()


def handed_over(body: Body, code: Any = call) -> Any:
    """Return what the server gets for a call that it hands over in a callback of the loop, as it does."""
    loop = asyncio.get_running_loop()
    run_first_steps(loop, call.__code__)
    return loop.create_future(), loop, lambda: loop.create_task(code(body))


async def begin(body: Body, code: Any = call) -> Any:
    begun, loop, start = handed_over(body, code)
    loop.call_soon(lambda: begun.set_result((start(), len(seen))))
    seen.clear()
    return await begun


seen: list[object] = []


async def test_a_call_that_waits_for_nothing_has_ended_when_it_was_handed_over() -> None:
    async def body() -> None:
        seen.append(asyncio.current_task())

    task, at_once = await begin(body)
    assert at_once == 1
    assert task.done()
    assert task.result() is None


async def test_a_call_that_waits_goes_on_in_a_task_with_what_it_waited_for() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        seen.append("begun")
        seen.append(await gate)
        await asyncio.sleep(0)
        seen.append(isinstance(asyncio.current_task(), asyncio.Task))

    task, at_once = await begin(body)
    assert (at_once, task.done()) == (1, False)
    gate.set_result("opened")
    await task
    assert seen == ["begun", "opened", True]


async def test_a_call_that_waits_is_cancelled_also_by_what_its_first_step_remembers() -> None:
    async def body() -> None:
        first = asyncio.current_task()
        assert first is not None
        asyncio.get_running_loop().call_later(0.01, first.cancel)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(first.cancelling())
            raise

    task, _ = await begin(body)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [1]


async def test_a_call_that_is_cancelled_as_soon_as_it_waits_hears_of_it() -> None:
    async def body() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    begun, loop, start = handed_over(body)

    def leave() -> None:
        task = start()
        task.cancel()
        begun.set_result(task)

    loop.call_soon(leave)
    seen.clear()
    with pytest.raises(asyncio.CancelledError):
        await (await begun)
    assert seen == ["cancelled"]


async def test_a_timeout_that_begins_in_the_first_step_ends_what_waits_later() -> None:
    async def body() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timeout")
        await asyncio.sleep(0)
        seen.append("on")

    task, _ = await begin(body)
    await task
    assert seen == ["timeout", "on"]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_call_raises_is_its_tasks(waits: bool) -> None:
    async def body() -> None:
        if waits:
            await asyncio.sleep(0)
        raise LookupError("gone")

    task, _ = await begin(body)
    with pytest.raises(LookupError, match="gone"):
        await task


async def test_a_failure_that_a_call_waited_for_reaches_it() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        try:
            await gate
        except LookupError:
            seen.append("caught")

    task, _ = await begin(body)
    gate.set_exception(LookupError())
    await task
    assert seen == ["caught"]


async def test_a_call_goes_on_in_the_step_that_gives_what_it_waits_for() -> None:
    first: Later[str] = Later()
    second: Later[str] = Later()
    loop = asyncio.get_running_loop()

    async def body() -> None:
        seen.append(await first)
        seen.append(await second)
        with pytest.raises(LookupError):
            await failing
        seen.append(asyncio.current_task() is call_of_server)

    failing: Later[str] = Later()
    call_of_server, _ = await begin(body)
    heard: asyncio.Future[Any] = loop.create_future()
    call_of_server.add_done_callback(heard.set_result)

    def give() -> None:
        first.set_result("one")
        seen.append("given")
        second.set_result("two")
        failing.set_exception(LookupError())
        seen.append(call_of_server.done())

    loop.call_soon(give)
    assert await heard is call_of_server
    assert seen == ["one", "given", "two", True, True]
    assert call_of_server.result() is None


async def test_what_is_given_in_a_task_does_not_let_the_call_run_in_it() -> None:
    later: Later[None] = Later()

    async def body() -> None:
        await later
        seen.append(asyncio.current_task() is waiting)

    waiting, _ = await begin(body)
    later.set_result(None)
    assert seen == []
    await waiting
    assert seen == [True]


async def test_a_call_that_waits_for_something_else_then_goes_on_in_a_task_and_its_end_is_told() -> None:
    later: Later[str] = Later()

    async def body() -> None:
        seen.append(await later)
        await asyncio.sleep(0)
        seen.append(isinstance(asyncio.current_task(), asyncio.Task))

    waiting, _ = await begin(body)
    ended = waiting.ended()
    asyncio.get_running_loop().call_soon(later.set_result, "given")
    await ended
    assert seen == ["given", True]
    assert waiting.done()


async def test_a_call_that_is_cancelled_while_it_waits_goes_on_once() -> None:
    later: Later[None] = Later()

    async def body() -> None:
        try:
            await later
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
    waiting, _ = await begin(body)
    assert waiting.cancel()
    later.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert (seen, failures) == (["cancelled"], [])
    assert not waiting.cancel()


async def test_a_call_that_is_cancelled_in_its_first_step_hears_of_it_where_it_waits() -> None:
    async def body() -> None:
        first = asyncio.current_task()
        assert first is not None
        first.cancel()
        try:
            await Later[None]()
        except asyncio.CancelledError:
            seen.append(first.cancelling())
            first.uncancel()

    waiting, _ = await begin(body)
    await waiting
    assert seen == [1]


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_call_that_was_cancelled_is_not_cancelled_again_where_it_waits_next(in_a_task: bool) -> None:
    loop = asyncio.get_running_loop()
    left: Later[str] = Later()
    future: asyncio.Future[str] = loop.create_future()
    cleanup: Later[str] | asyncio.Future[str] = future if in_a_task else Later()

    async def body() -> None:
        first = asyncio.current_task()
        assert first is not None
        try:
            await left
        except asyncio.CancelledError:
            loop.call_soon(left.set_result, "too late")
            loop.call_soon(loop.call_soon, cleanup.set_result, "cleaned up")
            seen.append(await cleanup)
            seen.append(first.cancelling())

    waiting, _ = await begin(body)
    waiting.cancel()
    await waiting
    assert seen == ["cleaned up", 1]


async def test_a_callback_that_fails_keeps_the_end_of_the_call_from_nobody() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
    given = Later[None]()

    async def body() -> None:
        await given

    def fails(_: object) -> None:
        raise ValueError("a callback")

    step, _ = await begin(body)
    step.add_done_callback(fails)
    step.add_done_callback(seen.append)
    asyncio.get_running_loop().call_soon(given.set_result, None)
    await step
    assert seen == [step]
    assert [str(failure["exception"]) for failure in failures] == ["a callback"]


async def test_a_task_takes_what_was_given_before_and_after_it_waits() -> None:
    before: Later[str] = Later()
    before.set_result("before")
    after: Later[str] = Later()
    asyncio.get_running_loop().call_soon(after.set_result, "after")
    assert [await before, await after] == ["before", "after"]


async def test_other_coroutines_and_tasks_of_tasks_begin_in_their_turn() -> None:
    async def body() -> None:
        seen.append(1)

    task, at_once = await begin(body, another)
    assert at_once == 0
    await task
    _, loop, _ = handed_over(body)
    seen.clear()
    own = loop.create_task(call(body))
    assert not seen
    await own
    assert seen == [1]


async def test_a_call_that_ended_before_there_was_a_coroutine_is_taken_for_its_task() -> None:
    loop = asyncio.get_running_loop()
    run_first_steps(loop, call.__code__)
    ended: Any = loop.create_task(ENDED, name="a call")  # type: ignore[arg-type]
    assert ended is ENDED
    assert ended.done()


async def test_many_calls_that_wait_and_do_not_are_all_answered(serve: Serve) -> None:
    async def late(call: Call) -> bytes:
        await asyncio.sleep(0)
        return call.request

    def answer(call: Call) -> Any:
        return late(call) if call.request[-1] % 2 else call.request

    _, addr = await serve(Methods(unary={"/a.B/C": answer}), concurrent_calls_max=2000)
    async with connect(addr) as channel:
        unary = channel.unary_unary("/a.B/C")
        requests = [number.to_bytes(2) for number in range(1000)]
        assert await asyncio.gather(*(unary(request) for request in requests)) == requests
