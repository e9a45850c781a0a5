from __future__ import annotations

from collections.abc import AsyncIterator

from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_common.runtime.metrics import Metrics
from danube_harness.rpc.calls import Serve, connect, status_of


async def test_calls_are_counted_by_method_and_result_and_strange_names_together(serve: Serve) -> None:
    async def answer(call: Call) -> bytes:
        if call.request:
            raise RpcError(StatusCode.NOT_FOUND, "nothing")
        return b""

    async def stream(_call: Call) -> AsyncIterator[bytes]:
        yield b"1"

    metrics = Metrics("gateway", "i")
    _, addr = await serve(Methods({"/a.B/C": answer}, {"/a.B/S": stream}), metrics=metrics)
    async with connect(addr) as channel:
        for _ in range(2):
            await channel.unary_unary("/a.B/C")(b"")
        await status_of(channel.unary_unary("/a.B/C")(b"x"))
        assert [one async for one in channel.unary_stream("/a.B/S")(b"")] == [b"1"]
        for number in range(3):
            await status_of(channel.unary_unary(f"/strange/{number}")(b""))
    series = [line for line in metrics.render().decode().splitlines() if line.startswith("danube_broker_rpc")]
    assert sorted(series) == [
        'danube_broker_rpc_total{method="C",result="not_found",service="a.B"} 1.0',
        'danube_broker_rpc_total{method="C",result="ok",service="a.B"} 2.0',
        'danube_broker_rpc_total{method="S",result="ok",service="a.B"} 1.0',
        'danube_broker_rpc_total{method="other",result="unimplemented",service="other"} 3.0',
    ]
