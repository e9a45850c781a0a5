from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc.aio
import pytest

from danube_client.calls import Deliveries, Stream


class LosesCancellations:
    """A call as gRPC's while it is prepared: who is cancelled there hears of the connection's end instead."""

    async def read(self) -> NoReturn:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            nothing = grpc.aio.Metadata()
            status = grpc.StatusCode.UNAVAILABLE
            raise grpc.aio.AioRpcError(status, nothing, nothing, "GOAWAY received") from None
        raise AssertionError

    async def write(self, _: object) -> NoReturn:
        await self.read()

    def cancel(self) -> None:
        pass


async def checked() -> None:
    raise AssertionError


def stream() -> Stream[Any, Any]:
    call: Any = LosesCancellations()
    return Stream(call, "127.0.0.1:1", checked)


def deliveries() -> Deliveries:
    call: Any = LosesCancellations()
    return Deliveries(call, "127.0.0.1:1")


@pytest.mark.parametrize(
    "waiting",
    [
        lambda: stream().read(),
        lambda: stream().write(b""),
        lambda: stream().open(b""),
        lambda: anext(deliveries()),
    ],
    ids=["read", "write", "open", "deliveries"],
)
async def test_a_cancellation_that_grpc_loses_ends_the_task_all_the_same(waiting: Any) -> None:
    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
