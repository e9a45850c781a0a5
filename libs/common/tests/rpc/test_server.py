from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable

import grpc
import grpc.aio
import pytest

from danube_common.rpc.first_step import Later
from danube_common.rpc.port import Call, Methods, UnaryHandler
from danube_common.rpc.server import RpcServer
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect, status_of


async def test_a_name_cannot_be_unary_and_stream_at_once() -> None:
    async def answer(_call: Call) -> bytes:
        return b""

    with pytest.raises(ValueError, match="several kinds: /a"):
        RpcServer(
            Methods({"/a.B/C": answer}, {"/a.B/C": Idle()}), message_bytes_max=1, concurrent_calls_max=1
        )


async def test_stopping_ends_streams_with_unavailable_and_lets_unary_calls_finish(serve: Serve) -> None:
    idle, begun, go = Idle(), asyncio.Event(), asyncio.Event()

    async def slow(_call: Call) -> bytes:
        begun.set()
        await go.wait()
        return b"done"

    server, addr = await serve(Methods({"/a.B/C": slow}, {"/a.B/S": idle}))
    async with connect(addr) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        unary = channel.unary_unary("/a.B/C")(b"")
        await begun.wait()
        stopping = asyncio.create_task(server.stop(30))
        code, _, _ = await status_of(stream.read())
        assert code is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(idle.closed.wait(), NOTICE_S)
        go.set()
        assert await unary == b"done"
        await stopping


async def test_stopping_waits_for_calls_without_a_task_and_ends_those_that_are_late(serve: Serve) -> None:
    stored: Later[bytes] = Later()
    never: Later[bytes] = Later()
    begun: asyncio.Queue[None] = asyncio.Queue()

    def soon(_call: Call) -> Awaitable[bytes]:
        begun.put_nowait(None)
        return stored

    def stuck(_call: Call) -> Awaitable[bytes]:
        begun.put_nowait(None)
        return never

    server, addr = await serve(Methods({"/a.B/C": soon, "/a.B/D": stuck}))
    async with connect(addr) as channel:
        answered = asyncio.ensure_future(channel.unary_unary("/a.B/C")(b""))
        late = asyncio.ensure_future(channel.unary_unary("/a.B/D")(b""))
        for _ in range(2):
            await begun.get()
        stopping = asyncio.create_task(server.stop(0.5))
        asyncio.get_running_loop().call_later(0.05, stored.set_result, b"done")
        assert await answered == b"done"
        assert (await status_of(late))[0] is grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_draining_refuses_all_but_some_methods_and_waits_for_those_to_end(serve: Serve) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_call: Call) -> bytes:
        begun.set()
        await go.wait()
        return b"done"

    async def quick(_call: Call) -> bytes:
        return b"served"

    methods = Methods({"/a.B/Slow": slow, "/a.B/Kept": quick, "/a.B/Refused": quick}, {"/a.B/S": Idle()})
    server, addr = await serve(methods)
    async with connect(addr) as channel:
        unary = channel.unary_unary("/a.B/Slow")(b"")
        await begun.wait()
        draining = asyncio.create_task(server.drain(["/a.B/Kept"], quiet_s=0.05, timeout_s=60))
        await asyncio.sleep(0)
        for refused in (channel.unary_unary("/a.B/Refused")(b""), channel.unary_stream("/a.B/S")(b"").read()):
            code, _, _ = await status_of(refused)
            assert code is grpc.StatusCode.UNAVAILABLE
        assert await channel.unary_unary("/a.B/Kept")(b"") == b"served"
        assert not draining.done()
        go.set()
        assert await unary == b"done"
        await draining


async def test_draining_ends_in_time_although_a_client_does_not_leave(serve: Serve) -> None:
    async def stuck(_call: Call) -> bytes:
        await asyncio.Event().wait()
        return b""

    server, addr = await serve(Methods({"/a.B/C": stuck}))
    async with connect(addr) as channel:
        unary = asyncio.ensure_future(channel.unary_unary("/a.B/C")(b""))
        await asyncio.wait_for(server.drain([], quiet_s=0.01, timeout_s=0.1), NOTICE_S)
        await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError):
            await unary


async def test_stopping_does_not_wait_longer_than_its_grace(serve: Serve) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stuck(_call: Call) -> bytes:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    server, addr = await serve(Methods({"/a.B/C": stuck}))
    async with connect(addr) as channel:
        unary = asyncio.ensure_future(channel.unary_unary("/a.B/C")(b""))
        await begun.wait()
        await asyncio.wait_for(server.stop(0.1), 10)
        await asyncio.wait_for(ended.wait(), NOTICE_S)
        with pytest.raises(grpc.aio.AioRpcError):
            await unary


async def test_a_taken_port_is_a_clear_error() -> None:
    async def answer(_call: Call) -> bytes:
        return b""

    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        server = RpcServer(Methods({"/a.B/C": answer}), message_bytes_max=1, concurrent_calls_max=1)
        with pytest.raises(OSError, match=f"cannot listen on {addr}: Address already in use"):
            await server.start(addr)


async def test_two_servers_never_share_a_port(serve: Serve) -> None:
    _, addr = await serve(Methods())
    second = RpcServer(Methods(), message_bytes_max=1, concurrent_calls_max=1)
    with pytest.raises(OSError, match="cannot listen"):
        await second.start(addr)


async def test_servers_that_ask_for_it_share_a_port_and_its_connections() -> None:
    callers: list[set[str]] = [set(), set()]

    def keep(peers: set[str]) -> UnaryHandler:
        async def answer(call: Call) -> bytes:
            peers.add(call.peer)
            return b""

        return answer

    servers = [
        RpcServer(Methods({"/a.B/C": keep(peers)}), message_bytes_max=1, concurrent_calls_max=100)
        for peers in callers
    ]
    addr = await servers[0].start("127.0.0.1:0", reuse_port=True)
    assert await servers[1].start(addr, reuse_port=True) == addr
    connections = 0
    while not all(callers):
        async with connect(addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(3):
                await channel.unary_unary("/a.B/C")(b"")
        connections += 1
    assert len(callers[0] | callers[1]) == connections
    assert not callers[0] & callers[1], "a connection stays where it is"
    for server in servers:
        await server.stop(0)


@pytest.mark.parametrize("addr", ["", "localhost", ":50051", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x"])
async def test_what_is_no_address_is_refused(addr: str) -> None:
    server = RpcServer(Methods(), message_bytes_max=1, concurrent_calls_max=1)
    with pytest.raises(ValueError, match="host:port"):
        await server.start(addr)


@pytest.mark.parametrize("addr", ["localhost:0", "0.0.0.0:0"])
async def test_a_host_name_and_the_wildcard_can_be_bound(addr: str) -> None:
    async def answer(_call: Call) -> bytes:
        return b"ok"

    server = RpcServer(Methods({"/a.B/C": answer}), message_bytes_max=1, concurrent_calls_max=1)
    bound = await server.start(addr)
    assert bound.split(":")[0] == addr.partition(":")[0]
    async with connect(f"127.0.0.1:{bound.split(':')[1]}") as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b"ok"
    await server.stop(0)
