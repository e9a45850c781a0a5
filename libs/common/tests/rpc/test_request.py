from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danube_common.rpc.call_head import CallHead
from danube_common.rpc.grpc_framing import PREFIX, announced_bytes, framed
from danube_common.rpc.port import Call, Methods
from danube_common.rpc.request import MessageLimit, single_message
from danube_common.rpc.server import RpcServer
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect, status_of
from danube_harness.rpc.raw_http2 import RawClient


async def test_a_requests_bytes_are_counted_when_they_are_announced() -> None:
    held: list[int] = []
    pieces = [PREFIX.pack(0, 9000), bytes(9000)]

    async def receive() -> Any:
        piece = pieces.pop(0)
        if not pieces:
            assert held == [9000], "before they are received"
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    assert await single_message(CallHead(()), receive, MessageLimit(10_000, ""), held.append) == bytes(9000)
    assert held == [9000]


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (b"", 0),
        (b"\0\0\0", 500),  # not known yet
        (PREFIX.pack(0, 7), 7),
        (PREFIX.pack(1, 7), 500),  # compressed: it may become as large
        (PREFIX.pack(0, 1 << 31), 500),  # it will be refused
    ],
)
def test_what_a_message_may_need_is_never_underestimated(body: bytes, size: int) -> None:
    assert announced_bytes(body, 500) == size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(garbage=st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_any_request_bytes_reach_the_handler_unchanged(garbage: list[bytes]) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []

        async def keep(call: Call) -> bytes:
            seen.append(call.request)
            return call.request

        async def keep_streaming(call: Call) -> AsyncIterator[bytes]:
            seen.append(call.request)
            yield call.request

        methods = Methods({"/a.B/C": keep}, {"/a.B/S": keep_streaming})
        server = RpcServer(methods, message_bytes_max=1000, concurrent_calls_max=10)
        addr = await server.start("127.0.0.1:0")
        async with connect(addr) as channel:
            for data in garbage:
                assert await channel.unary_unary("/a.B/C")(data) == data
                assert await channel.unary_stream("/a.B/S")(data).read() == data
        await server.stop(0)
        assert seen == [data for data in garbage for _ in range(2)]

    asyncio.run(scenario())


async def test_a_request_over_the_byte_bound_is_refused_and_the_largest_allowed_passes(serve: Serve) -> None:
    seen: list[int] = []

    async def length(call: Call) -> bytes:
        seen.append(len(call.request))
        return b"ok"

    _, addr = await serve(
        Methods({"/a.B/C": length}, {"/a.B/S": Idle()}),
        message_bytes_max=1000,
        message_bytes_hint="by design",
    )
    async with connect(addr) as channel:
        for call in (channel.unary_unary("/a.B/C"), lambda data: channel.unary_stream("/a.B/S")(data).read()):
            code, text, _ = await status_of(call(bytes(1001)))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert text == "the request has 1001 bytes, and at most 1000 are taken: by design"
            code, _, _ = await status_of(call(bytes(2 * 1000 + 1)))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await channel.unary_unary("/a.B/C")(bytes(1000)) == b"ok"
    assert seen == [1000]


async def test_a_gzip_request_is_read_and_the_client_is_told_what_is_accepted(serve: Serve) -> None:
    seen: list[bytes] = []

    async def keep(call: Call) -> bytes:
        seen.append(call.request)
        return b"ok"

    _, addr = await serve(Methods({"/a.B/C": keep}))
    async with connect(addr) as channel:
        assert await channel.unary_unary("/a.B/C")(bytes(10_000), compression=grpc.Compression.Gzip) == b"ok"
    async with RawClient(addr) as raw:
        assert (await raw.call("/a.B/C", framed([bytes(10_000)]))).headers[
            "grpc-accept-encoding"
        ] == "identity,gzip"
    assert seen == [bytes(10_000)] * 2


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", [], 13),
        (b"\0\0", [], 13),
        (b"\0\0\0\0\x05abc", [], 13),
        (framed([b"one", b"two"]), [], 13),
        (b"\1\0\0\0\x03abc", [], 13),
        (b"\1\0\0\0\x03abc", [("grpc-encoding", "gzip")], 13),
        (framed([b"x"]), [("grpc-encoding", "snappy")], 12),
        (framed([b"x"]), [("grpc-timeout", "soon")], 13),
        (framed([b"x"]), [("x-bin", "!!")], 13),
        (b"\0\xff\xff\xff\xff", [], 8),
        (framed([b"x"]), [("content-type", "application/grpc+proto")], 0),
    ],
)
async def test_malformed_calls_get_a_status_and_do_not_disturb_others(
    serve: Serve, body: bytes, headers: list[tuple[str, str]], status: int
) -> None:
    async def answer(_call: Call) -> bytes:
        return b"ok"

    _, addr = await serve(Methods({"/a.B/C": answer}))
    async with RawClient(addr) as raw:
        assert (await raw.call("/a.B/C", body, headers)).status == str(status)
        assert (await raw.call("/a.B/C", framed([b""]))).status == "0"


async def test_what_is_no_grpc_call_is_refused_in_words(serve: Serve) -> None:
    _, addr = await serve(Methods())
    async with RawClient(addr) as raw:
        for kind in ("application/json", "application/grpc+json"):
            assert (await raw.call("/a.B/C", b"{}", [("content-type", kind)])).headers[":status"] == "415"
        assert (await raw.call("/a.B/C", b"", method="PUT")).headers[":status"] == "405"
        assert (await raw.call("/a.B/C", b"", te=False)).headers[":status"] == "400"
    reader, writer = await asyncio.open_connection(*addr.split(":"))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = await asyncio.wait_for(reader.read(-1), NOTICE_S)
    assert text.startswith(b"HTTP/1.1 505")
    assert b"this port speaks gRPC, which needs HTTP/2" in text
    writer.close()


async def test_headers_that_are_too_large_end_the_call_and_not_the_server(serve: Serve) -> None:
    async def answer(_call: Call) -> bytes:
        return b"ok"

    _, addr = await serve(Methods({"/a.B/C": answer}))
    async with connect(addr) as channel:
        code, _, _ = await status_of(channel.unary_unary("/a.B/C")(b"", metadata=(("x", "y" * 100_000),)))
        assert code is not grpc.StatusCode.OK
    async with connect(addr) as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b"ok"


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100],
    ids=["http1", "zeros", "bad-frames"],
)
async def test_wire_noise_on_one_connection_does_not_disturb_others(
    serve: Serve, noise: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_common.rpc.server.HEADER_S_MAX", 1.0)

    async def answer(_call: Call) -> bytes:
        return b"ok"

    _, addr = await serve(Methods({"/a.B/C": answer}))
    host, port = addr.split(":")
    async with connect(addr) as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b"ok"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(noise)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(-1), 10)
        writer.close()
        assert await channel.unary_unary("/a.B/C")(b"") == b"ok"
