from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.port import Call, Methods
from danube_harness.faults.tcp_proxy import TcpProxy
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect, status_of
from danube_harness.rpc.raw_http2 import RawClient


async def test_over_the_bound_a_call_is_refused_at_once_and_streams_do_not_count(serve: Serve) -> None:
    go, running = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(_call: Call) -> bytes:
        running.release()
        await go.wait()
        return b"done"

    methods = Methods({"/a.B/C": slow}, {"/a.B/S": Idle()})
    _, addr = await serve(methods, concurrent_calls_max=2, streams_max=3)
    async with connect(addr) as channel:
        streams = [channel.unary_stream("/a.B/S")(b"") for _ in range(3)]
        for stream in streams:
            assert await stream.read() == b"first"
        calls = [asyncio.ensure_future(channel.unary_unary("/a.B/C")(b"")) for _ in range(2)]
        for _ in calls:
            await running.acquire()
        code, text, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "concurrent_calls_max" in text
        code, text, _ = await status_of(channel.unary_stream("/a.B/S")(b"").read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "streams_max" in text
        go.set()
        assert await asyncio.gather(*calls) == [b"done", b"done"]
        assert await channel.unary_unary("/a.B/C")(b"") == b"done"
        for stream in streams:
            stream.cancel()


async def test_what_one_connection_has_waiting_is_bounded_and_more_is_refused(serve: Serve) -> None:
    go, running = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(call: Call) -> bytes:
        running.release()
        await go.wait()
        return b"%d" % len(call.request)

    _, addr = await serve(Methods({"/a.B/C": slow}), connection_bytes_max=100_000)
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with connect(addr, own) as channel, connect(addr, own) as other:
        unary = channel.unary_unary("/a.B/C")
        calls = [asyncio.ensure_future(unary(bytes(size))) for size in (40_000, 60_000, 100, 100)]
        for _ in calls:
            await running.acquire()
        code, text, _ = await status_of(unary(bytes(40_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "100000 bytes already" in text
        alone = asyncio.ensure_future(other.unary_unary("/a.B/C")(bytes(200_000)))
        await running.acquire()
        calls[1].cancel()
        await asyncio.wait(calls[1:2])
        refused = True
        while refused:  # until the server has heard of it
            last = asyncio.ensure_future(unary(bytes(40_000)))
            entered = asyncio.ensure_future(running.acquire())
            await asyncio.wait((last, entered), return_when=asyncio.FIRST_COMPLETED)
            refused = not entered.done()
            entered.cancel()
            await asyncio.wait((entered,))
        go.set()
        answers = [await call for call in (calls[0], calls[2], alone, last)]
        assert answers == [b"40000", b"100", b"200000", b"40000"]
        assert await unary(bytes(90_000)) == b"90000"


async def test_a_clients_deadline_ends_the_handler(serve: Serve) -> None:
    idle, ended = Idle(), asyncio.Event()

    async def stuck(_call: Call) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    _, addr = await serve(Methods({"/a.B/C": stuck}, {"/a.B/S": idle}))
    async with RawClient(addr) as raw:
        answer = await raw.call("/a.B/C", framed([b""]), [("grpc-timeout", "50m")])
        assert answer.status == "4"
        assert ended.is_set()
        answer = await raw.call("/a.B/S", framed([b""]), [("grpc-timeout", "50m")])
        assert answer.status == "4"
        assert idle.closed.is_set()


async def test_an_idle_stream_is_closed_when_its_client_cancels(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}))
    async with connect(addr) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        stream.cancel()
        await asyncio.wait_for(idle.closed.wait(), NOTICE_S)


async def test_an_idle_stream_is_closed_when_its_client_closes_the_channel(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}))
    channel = connect(addr)
    stream = channel.unary_stream("/a.B/S")(b"")
    assert await stream.read() == b"first"
    await channel.close()
    await asyncio.wait_for(idle.closed.wait(), NOTICE_S)


async def test_an_idle_stream_is_closed_when_its_connection_breaks(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}))
    async with TcpProxy.run(lambda: addr) as wire, connect(wire.address) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        wire.cut()
        await asyncio.wait_for(idle.closed.wait(), NOTICE_S)
        stream.cancel()


async def test_a_peer_whose_packets_are_dropped_is_noticed_on_an_idle_stream(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}), keepalive_s=1, keepalive_timeout_s=5)
    async with TcpProxy.run(lambda: addr) as wire, connect(wire.address) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        wire.vanish()
        await asyncio.wait_for(idle.closed.wait(), 20)
        stream.cancel()


async def test_a_client_that_pings_often_is_not_cut_off(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}))
    pings = (
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with connect(addr, options=pings) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(idle.closed.wait(), 1)
        stream.cancel()


async def test_a_stream_blocked_by_a_client_that_does_not_read_is_closed_when_it_leaves(serve: Serve) -> None:
    closed = asyncio.Event()
    sent = 0

    async def flood(_call: Call) -> AsyncIterator[bytes]:
        nonlocal sent
        try:
            while True:
                yield bytes(1 << 18)
                sent += 1
        finally:
            closed.set()

    _, addr = await serve(Methods(stream={"/a.B/S": flood}))
    channel = connect(addr)
    stream = channel.unary_stream("/a.B/S")(b"")
    await stream.read()
    before = -1
    while before != sent:  # flow control has stopped the sender
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 1000
    await channel.close()
    await asyncio.wait_for(closed.wait(), NOTICE_S)
