"""The client without asyncio as tests of the one with it see it: each call blocks a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

from danube_client import sync

OPENED = ("producer", "consumer", "reader")
"""What a client opens where it is made, and the other one where it is awaited."""


class Opening:
    """What is opened when it is awaited or entered."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._opened: Blocking | None = None

    def __await__(self) -> Generator[Any, None, Blocking]:
        return self._open().__await__()

    async def __aenter__(self) -> Blocking:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.close()

    async def _open(self) -> Blocking:
        self._opened = Blocking(await asyncio.to_thread(self._make))
        return self._opened


class Blocking:
    """A client, producer, consumer, reader or message of `danube_client.sync`."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._blocking, name)
        if not inspect.ismethod(found) or not isinstance(found.__self__, SYNC):
            return found
        if name in OPENED:
            return lambda *given, **options: Opening(lambda: found(*given, **options))

        async def call(*given: Any, **options: Any) -> Any:
            return wrapped(await asyncio.to_thread(found, *map(unwrapped, given), **options))

        return call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await asyncio.to_thread(next, self._blocking, None)
        if message is None:
            raise StopAsyncIteration
        return Blocking(message)


SYNC = (sync.Client, sync.Producer, sync.Consumer, sync.Reader, sync.Message)


def wrapped(result: Any) -> Any:
    """Return a result of a blocking call as the one of an awaited call."""
    if isinstance(result, concurrent.futures.Future):
        return asyncio.wrap_future(result)
    if isinstance(result, list):
        return [wrapped(each) for each in result]
    return Blocking(result) if isinstance(result, SYNC) else result


def unwrapped(argument: Any) -> Any:
    """Return an argument of an awaited call as the one of a blocking call."""
    if isinstance(argument, list):
        return [unwrapped(each) for each in argument]
    return argument._blocking if isinstance(argument, Blocking) else argument
