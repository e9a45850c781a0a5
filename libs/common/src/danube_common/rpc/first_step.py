"""Runs the first step of a call when the HTTP/2 server hands it over, without a task.

Most calls of messages and acknowledgements end in that step. A task would cost each of them two turns of the
event loop. A call that waits for a `Later`, such as a message that is to be stored, goes on in the step that
gives it. A call that waits for anything else goes on in a task like any other.
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")

_TOLD: Final = object()


class _Rest(Coroutine[Any, Any, None]):
    """A coroutine that has begun and waits. As it has begun, a task that is cancelled at once tells it."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def send(self, value: Any) -> Any:
        """Tell the task once what is waited for already; then go on."""
        waits_for, self._waits_for = self._waits_for, _TOLD
        return self._coroutine.send(value) if waits_for is _TOLD else waits_for

    def throw(self, *error: Any) -> Any:
        """Raise an error, such as a cancellation, where the coroutine waits."""
        self._waits_for = _TOLD
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()


class Later(Generic[T]):
    """What one call waits for and somebody gives: a future without a turn of the event loop.

    A call that has no task goes on in the very step that gives the result, unless that is a step of a task:
    then it goes on in the next turn, as it does in a task of its own.
    """

    __slots__ = ("_error", "_given", "_go_on", "_result")

    def __init__(self) -> None:
        self._given = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._go_on: Callable[[], object] | None = None

    def done(self) -> bool:
        """Return whether it was given."""
        return self._given

    def set_result(self, result: T) -> None:
        """Give it. Only once, as of a future."""
        self._result = result
        self._give()

    def set_exception(self, error: BaseException) -> None:
        """Have the call raise this instead."""
        self._error = error
        self._give()

    def _give(self) -> None:
        self._given = True
        if self._go_on is not None:
            self._go_on()

    def __await__(self) -> Generator[Any, Any, T]:
        while not self._given:  # what the call waited for before, and was cancelled at, may wake it, too
            step: object = asyncio.current_task()
            if isinstance(step, FirstStep):
                self._go_on = step.go_on
                yield self
            else:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._go_on = partial(_wake, future)
                yield from future
        if self._error is not None:
            raise self._error
        return cast("T", self._result)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class FirstStep:
    """What `asyncio.current_task` returns in a call that has no task, and what the server gets for one.

    Later it stands for the call's task.

    Attributes:
        task: goes on with the call; None while it has waited for nothing but `Later`.
    """

    __slots__ = (
        *("_cancelled", "_context", "_coroutine", "_error", "_heard", "_loop", "_to_throw", "_waits", "task"),
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
    ) -> None:
        self.task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._to_throw = False
        self._waits = False
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._context = context
        self._error: BaseException | None = None
        self._heard: list[Callable[[Any], object]] | None = None

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self.task.done() if self.task is not None else self._coroutine is None

    def result(self) -> None:
        """Return nothing, or raise what the call has raised."""
        if self.task is not None:
            self.task.result()
        if self._error is not None:
            raise self._error

    def set_name(self, name: object) -> None:
        """Take no name."""

    def add_done_callback(self, heard: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call ``heard`` when the call has ended, with this or the task."""
        if self.task is not None:
            self.task.add_done_callback(heard, context=context)
        elif self._heard is None:
            self._heard = [heard]
        else:
            self._heard.append(heard)

    def ended(self) -> asyncio.Future[Any]:
        """Return a future that is done when the call has ended."""
        if self.task is not None:
            return self.task
        future = self._loop.create_future()
        if self._coroutine is None:
            future.set_result(None)
        else:
            self.add_done_callback(lambda _: _wake(future))
        return future

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self.ended()
        self.result()

    def cancel(self, msg: object = None) -> bool:
        """Cancel the call where it waits, or where it waits first; see `asyncio.Task.cancel`."""
        if self.task is not None:
            return self.task.cancel(msg)
        self._cancelled = self._to_throw = True
        if self._waits:
            self._waits = False
            self._loop.call_soon(self._throw)
        return not self.done()

    def cancelling(self) -> int:
        """See `asyncio.Task.cancelling`."""
        return int(self._cancelled) + (self.task.cancelling() if self.task is not None else 0)

    def uncancel(self) -> int:
        """See `asyncio.Task.uncancel`."""
        if self._cancelled:
            self._cancelled = self._to_throw = False
        elif self.task is not None:
            self.task.uncancel()
        return self.cancelling()

    def go_on(self) -> None:
        """Go on with the call, as what it waits for was given. One that was cancelled goes on by itself."""
        if self._waits:
            self._waits = False
            if asyncio.current_task(self._loop) is None:
                self.run()
            else:
                self._loop.call_soon(self.run)

    def run(self) -> None:
        """Run the call until it ends or waits, outside of a task."""
        self._step(cast("Any", self._coroutine).send, None)

    def _throw(self) -> None:
        self._to_throw = False
        self._step(cast("Any", self._coroutine).throw, asyncio.CancelledError())

    def _step(self, step: Callable[[Any], object], sent: object) -> None:
        _enter_task(self._loop, cast("asyncio.Task[Any]", self))
        try:
            waits_for = self._context.run(step, sent)
        except StopIteration:
            self._coroutine = None
        except BaseException as error:  # noqa: BLE001 - the server asks for it
            self._coroutine, self._error = None, error
        finally:
            _leave_task(self._loop, cast("asyncio.Task[Any]", self))
        if self._coroutine is None:
            for heard in self._heard or ():
                self._tell(heard)
        elif isinstance(waits_for, Later):
            self._waits = True
            if self._to_throw:
                self.cancel()
        else:
            self._become_task(self._coroutine, waits_for)

    def _tell(self, heard: Callable[[Any], object]) -> None:
        try:
            heard(self)
        except Exception as error:  # noqa: BLE001 - as of a future: others go on
            self._loop.call_exception_handler({"message": "a callback of a call failed", "exception": error})

    def _become_task(self, coroutine: Coroutine[Any, Any, None], waits_for: object) -> None:
        self.task = asyncio.Task(_Rest(coroutine, waits_for), context=self._context)
        if self._to_throw:
            self._cancelled = False
            self.task.cancel()
        for heard in self._heard or ():
            self.task.add_done_callback(heard)


class Ended:
    """What the server gets for a call that has ended before there was a coroutine."""

    __slots__ = ()

    def done(self) -> bool:
        """Return that it has ended."""
        return True

    def result(self) -> None:
        """Return nothing."""

    def set_name(self, name: object) -> None:
        """Take no name."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


ENDED: Final = Ended()


def run_first_steps(loop: asyncio.AbstractEventLoop, *codes: types.CodeType) -> None:
    """Have coroutines with such code begin at once where ``loop.create_task`` is called outside of a task.

    They return None. In their place the loop takes `ENDED`, and what `begun` returns, too. Idempotent.
    """
    other: Callable[..., asyncio.Future[Any]] = cast("Any", loop.get_task_factory() or _task)
    if getattr(other, "codes", None) == codes:
        return

    def factory(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        if cast("object", coroutine) is ENDED:
            return cast("asyncio.Future[Any]", ENDED)
        if isinstance(cast("object", coroutine), FirstStep):
            return _task_of(cast("Any", coroutine))
        if getattr(coroutine, "cr_code", None) not in codes or asyncio.current_task(loop) is not None:
            return other(loop, coroutine, **options)
        return _task_of(begun(loop, coroutine))

    cast("Any", factory).codes = codes
    loop.set_task_factory(cast("Any", factory))


def begun(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> FirstStep:
    """Run the first step of a coroutine now, outside of a task."""
    step = FirstStep(loop, coroutine, copy_context())
    step.run()
    return step


def _task_of(step: FirstStep) -> asyncio.Future[Any]:
    return cast("asyncio.Future[Any]", step if step.task is None else step.task)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
    return asyncio.Task(coroutine, loop=loop, **options)
