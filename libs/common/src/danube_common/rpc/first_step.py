"""Runs the first step of a call when the HTTP/2 server hands it over, without a task.

Most calls of messages and acknowledgements end in that step. A task would cost each of them two turns of the
event loop. A call that waits goes on in a task like any other.
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final, cast

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


class FirstStep:
    """What `asyncio.current_task` returns in the first step of a call; later it stands for the call's task.

    Attributes:
        task: goes on with the call; None during the first step.
    """

    __slots__ = ("_cancelled", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self.task is not None and self.task.done()

    def cancel(self, msg: object = None) -> bool:
        """Cancel the call where it waits, or where it waits first; see `asyncio.Task.cancel`."""
        if self.task is not None:
            return self.task.cancel(msg)
        self._cancelled = True
        return True

    def cancelling(self) -> int:
        """See `asyncio.Task.cancelling`."""
        return self.task.cancelling() if self.task is not None else int(self._cancelled)

    def uncancel(self) -> int:
        """See `asyncio.Task.uncancel`."""
        if self.task is not None:
            return self.task.uncancel()
        self._cancelled = False
        return 0

    def go_on(self, coroutine: Coroutine[Any, Any, None], context: Context, waits_for: object) -> None:
        """Leave a call that waits for the first time to a task."""
        self.task = asyncio.Task(_Rest(coroutine, waits_for), context=context)
        if self._cancelled:
            self.task.cancel()


class _Ended:
    """The task of a call that has ended, as far as the server asks for it."""

    def set_name(self, name: object) -> None:
        """Take no name."""

    def done(self) -> bool:
        return True

    def result(self) -> None:
        """Return nothing, as every call."""


_ENDED: Final = _Ended()


def run_first_steps(loop: asyncio.AbstractEventLoop, code: types.CodeType) -> None:
    """Have coroutines with this code begin at once where ``loop.create_task`` is called outside of a task.

    Such a coroutine returns None. Idempotent.
    """
    other: Callable[..., asyncio.Future[Any]] = cast("Any", loop.get_task_factory() or _task)
    if getattr(other, "code", None) is code:
        return

    def factory(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        if getattr(coroutine, "cr_code", None) is not code or asyncio.current_task(loop) is not None:
            return other(loop, coroutine, **options)
        step = FirstStep()
        context = copy_context()
        _enter_task(loop, cast("asyncio.Task[Any]", step))
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration:
            return cast("asyncio.Future[Any]", _ENDED)
        except BaseException as error:  # noqa: BLE001 - the server asks the task for it
            return other(loop, _failed(error), **options)
        finally:
            _leave_task(loop, cast("asyncio.Task[Any]", step))
        step.go_on(coroutine, context, waits_for)
        return cast("asyncio.Future[Any]", step.task)

    cast("Any", factory).code = code
    loop.set_task_factory(cast("Any", factory))


def _task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
    return asyncio.Task(coroutine, loop=loop, **options)


async def _failed(error: BaseException) -> None:
    raise error
