from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from danube_common.rpc.grpc_framing import PREFIX, framed
from danube_common.rpc.port import OPENED, Call, Methods, Opened, RpcError, StatusCode
from danube_common.rpc.server import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect, status_of
from danube_harness.rpc.raw_http2 import RawClient

Requests = AsyncIterator[bytes]


async def echo(_call: Call, requests: Requests) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def heads(_call: Call, requests: Requests) -> AsyncIterator[bytes]:
    """One byte of each message, so that a test of large ones is about the way there."""
    async for request in requests:
        yield request[:1]


class Gate:
    """Reads nothing until told, and tells when its finally has run."""

    def __init__(self) -> None:
        self.open, self.begun, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, _call: Call, requests: Requests) -> AsyncIterator[bytes | Opened]:
        try:
            self.begun.set()
            yield OPENED
            await self.open.wait()
            async for request in requests:
                yield request[:1]
        finally:
            self.closed.set()


async def until_window_is_used_up(stream: Any) -> int:
    """Send messages of 64 KiB for as long as the server takes any; return how many."""
    message, sent = framed([bytes(65_531)]), 0
    while True:
        while stream.window >= len(message):
            stream.send(message)
            sent += 1
        try:
            await asyncio.wait_for(stream._client.receive(), 0.3)
        except TimeoutError:
            return sent


async def test_messages_are_answered_one_by_one_in_both_directions_at_once(serve: Serve) -> None:
    _, addr = await serve(Methods(bidi={"/a.B/D": echo}))
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")()
        for number in range(100):
            await stream.write(b"%d" % number)
            assert await stream.read() == b"%d" % number
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_the_handler_sees_method_metadata_and_peer(serve: Serve) -> None:
    seen: list[Call] = []

    async def keep(call: Call, _requests: Requests) -> AsyncIterator[bytes]:
        seen.append(call)
        yield b"seen"

    _, addr = await serve(Methods(bidi={"/a.B/D": keep}))
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")(metadata=(("topic", "t"),))
        assert await stream.read() == b"seen"
        assert await stream.read() is grpc.aio.EOF
    assert (seen[0].method, seen[0].request, seen[0].metadata["topic"]) == ("/a.B/D", b"", "t")
    assert seen[0].peer.startswith("ipv4:127.0.0.1:")


async def test_a_half_close_ends_the_requests_and_the_handler_may_go_on(serve: Serve) -> None:
    async def total(_call: Call, requests: Requests) -> AsyncIterator[list[bytes]]:
        sizes = [len(request) async for request in requests]
        yield [b"%d" % size for size in sizes]
        yield [b"end"]

    _, addr = await serve(Methods(bidi={"/a.B/D": total}))
    async with connect(addr) as channel:
        sent = iter([b"", b"x", bytes(300_000)])
        received = [message async for message in channel.stream_stream("/a.B/D")(sent)]
    assert received == [b"0", b"1", b"300000", b"end"]


async def test_headers_come_before_the_first_request_when_the_handler_says_so(serve: Serve) -> None:
    gate = Gate()
    _, addr = await serve(Methods(bidi={"/a.B/D": gate}))
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D")
        answer = await stream.until(lambda answer: bool(answer.blocks))
        assert answer.headers[":status"] == "200"
        assert not answer.ended
        stream.cancel()
        await asyncio.wait_for(gate.closed.wait(), NOTICE_S)


async def test_a_handler_that_ends_early_ends_the_call_of_a_client_that_goes_on_sending(serve: Serve) -> None:
    async def one(_call: Call, requests: Requests) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            return

    _, addr = await serve(Methods(bidi={"/a.B/D": one}))
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D")
        stream.send(framed([b"1", b"2", b"3"]))
        answer = await stream.end()
        assert (answer.messages, answer.status) == ([b"1"], "0")
        assert (await raw.call("/a.B/D", framed([b"again"]))).messages == [b"again"]


async def test_the_window_holds_back_a_client_whose_messages_are_not_read(serve: Serve) -> None:
    gate = Gate()
    _, addr = await serve(Methods(bidi={"/a.B/D": gate}))
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D")
        sent = await until_window_is_used_up(stream)
        assert sent <= STREAM_WINDOW_BYTES >> 16
        gate.open.set()
        while stream.window < 65_536:
            await asyncio.wait_for(raw.receive(), NOTICE_S)
        for _ in range(3 * sent):
            while stream.window < 65_536:
                await asyncio.wait_for(raw.receive(), NOTICE_S)
            stream.send(framed([bytes(65_531)]))
        stream.send(b"", end=True)
        answer = await stream.end()
        assert (len(answer.messages), answer.status) == (4 * sent, "0")


async def test_a_stream_that_is_not_read_does_not_stop_the_others_of_its_connection(serve: Serve) -> None:
    assert CONNECTION_WINDOW_BYTES >= 8 * STREAM_WINDOW_BYTES
    gate = Gate()
    _, addr = await serve(Methods(bidi={"/a.B/D": gate, "/a.B/E": heads}))
    async with RawClient(addr) as raw:
        for _ in range(3):
            await until_window_is_used_up(raw.open("/a.B/D"))
        answer = await raw.call("/a.B/E", framed([b"x" * 60_000] * 10))
        assert (answer.messages, answer.status) == ([b"x"] * 10, "0")


async def test_a_client_that_does_not_read_holds_the_handler_back(serve: Serve) -> None:
    sent, closed = 0, asyncio.Event()

    async def flood(_call: Call, requests: Requests) -> AsyncIterator[bytes]:
        nonlocal sent
        try:
            async for _ in requests:
                while True:
                    yield bytes(1 << 16)
                    sent += 1
        finally:
            closed.set()

    _, addr = await serve(Methods(bidi={"/a.B/D": flood}))
    async with RawClient(addr, acknowledge=False) as raw:
        stream = raw.open("/a.B/D")
        stream.send(framed([b"go"]))
        await stream.until(lambda answer: len(answer.body) >= 65_535)  # the window of a client by default
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 1000
        stream.cancel()
        await asyncio.wait_for(closed.wait(), NOTICE_S)


@pytest.mark.parametrize("how", ["cancel", "leave"])
@pytest.mark.parametrize("reading", [True, False])
async def test_a_client_that_goes_away_closes_the_handler(serve: Serve, how: str, reading: bool) -> None:
    gate = Gate()
    _, addr = await serve(Methods(bidi={"/a.B/D": gate}))
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D")
        if reading:
            gate.open.set()
            stream.send(framed([b"x"]))
            await stream.until(lambda answer: bool(answer.messages))
        await asyncio.wait_for(gate.begun.wait(), NOTICE_S)
        if how == "cancel":
            stream.cancel()
            await asyncio.wait_for(gate.closed.wait(), NOTICE_S)
    await asyncio.wait_for(gate.closed.wait(), NOTICE_S)


async def test_a_client_that_has_half_closed_is_noticed_when_it_cancels(serve: Serve) -> None:
    idle = Idle()

    async def stay(call: Call, requests: Requests) -> AsyncIterator[bytes]:
        assert [request async for request in requests] == [b"x"]
        async for message in idle(call):
            yield message

    _, addr = await serve(Methods(bidi={"/a.B/D": stay}))
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")(iter([b"x"]))
        assert await stream.read() == b"first"
        stream.cancel()
        await asyncio.wait_for(idle.closed.wait(), NOTICE_S)


async def test_a_deadline_ends_the_handler(serve: Serve) -> None:
    gate = Gate()
    _, addr = await serve(Methods(bidi={"/a.B/D": gate}))
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D", [("grpc-timeout", "50m")])
        assert (await stream.end()).status == "4"
        assert gate.closed.is_set()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\0\0", [], 13),
        (b"\0\0\0\0\x05abc", [], 13),
        (b"\1\0\0\0\x03abc", [], 13),
        (b"\1\0\0\0\x03abc", [("grpc-encoding", "gzip")], 13),
        (b"\2\0\0\0\x03abc", [("grpc-encoding", "gzip")], 13),
        (b"\0\xff\xff\xff\xff", [], 8),
        (PREFIX.pack(0, 1001), [], 8),
        (PREFIX.pack(1, 200) + gzip.compress(bytes(150_000)).ljust(200), [("grpc-encoding", "gzip")], 8),
    ],
)
async def test_malformed_framing_in_the_middle_of_a_stream_gets_a_status(
    serve: Serve, body: bytes, headers: list[tuple[str, str]], status: int
) -> None:
    _, addr = await serve(Methods(bidi={"/a.B/D": echo}), message_bytes_max=1000)
    async with RawClient(addr) as raw:
        stream = raw.open("/a.B/D", headers)
        stream.send(framed([b"one", b"two"]))
        await stream.until(lambda answer: answer.messages == [b"one", b"two"])
        stream.send(body, end=True)
        answer = await stream.end()
        assert (answer.status, answer.messages) == (str(status), [b"one", b"two"])
        assert (await raw.call("/a.B/D", framed([b"x"]))).messages == [b"x"]


async def test_gzip_messages_may_come_among_others(serve: Serve) -> None:
    _, addr = await serve(Methods(bidi={"/a.B/D": echo}))
    zipped = gzip.compress(bytes(10_000))
    async with RawClient(addr) as raw:
        body = framed([b"1"]) + PREFIX.pack(1, len(zipped)) + zipped + framed([b"3"])
        answer = await raw.call("/a.B/D", body, [("grpc-encoding", "gzip")])
        assert (answer.messages, answer.status) == ([b"1", bytes(10_000), b"3"], "0")
        answer = await raw.call("/a.B/D", body, [("grpc-encoding", "snappy")])
        assert (answer.messages, answer.status) == ([], "12")


async def test_more_may_pass_a_stream_than_a_request_of_one_message_may_have(serve: Serve) -> None:
    _, addr = await serve(Methods(bidi={"/a.B/D": heads}), message_bytes_max=100_000)
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")(bytes(100_000) for _ in range(50))
        assert [message async for message in stream] == [b"\0"] * 50


async def test_an_error_of_the_handler_is_the_status(serve: Serve) -> None:
    async def fail(_call: Call, requests: Requests) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"bad":
                raise RpcError(StatusCode.NOT_FOUND, "no such", {"error-message-bin": b"\xff"})
            yield request

    _, addr = await serve(Methods(bidi={"/a.B/D": fail}))
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")(iter([b"good", b"bad"]))
        assert await stream.read() == b"good"
        code, text, trailers = await status_of(stream.read())
    assert (code, text, trailers) == (grpc.StatusCode.NOT_FOUND, "no such", {"error-message-bin": b"\xff"})


async def test_stopping_ends_it_with_unavailable_and_draining_refuses_new_ones(serve: Serve) -> None:
    gate = Gate()
    server, addr = await serve(Methods(bidi={"/a.B/D": gate}))
    async with connect(addr) as channel:
        stream = channel.stream_stream("/a.B/D")()
        await stream.initial_metadata()
        await server.drain([], quiet_s=0, timeout_s=0)
        code, _, _ = await status_of(channel.stream_stream("/a.B/D")().read())
        assert code is grpc.StatusCode.UNAVAILABLE
        stopping = asyncio.create_task(server.stop(30))
        code, _, _ = await status_of(stream.read())
        assert code is grpc.StatusCode.UNAVAILABLE
        await stopping
    assert gate.closed.is_set()


async def test_over_the_bound_of_streams_another_is_refused(serve: Serve) -> None:
    gate = Gate()
    methods = Methods(stream={"/a.B/S": Idle()}, bidi={"/a.B/D": gate})
    _, addr = await serve(methods, streams_max=2)
    async with connect(addr) as channel:
        one, other = channel.unary_stream("/a.B/S")(b""), channel.stream_stream("/a.B/D")()
        assert await one.read() == b"first"
        await other.initial_metadata()
        code, text, _ = await status_of(channel.stream_stream("/a.B/D")().read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "streams_max" in text
        one.cancel()
        other.cancel()
