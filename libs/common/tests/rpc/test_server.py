from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self, cast

import grpc
import grpc.aio
import h2.connection
import h2.events
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.port import OPENED, Call, Methods, Opened, RpcError, StatusCode
from danube_common.rpc.server import RpcServer

SO_ATTACH_FILTER = 26
NOTICE_S = 5.0  # a busy machine; well below the keepalive, which is another way to notice
Served = tuple[RpcServer, str]
Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[RpcServer] = []

    async def start(methods: Methods, **limits: Any) -> Served:
        server = RpcServer(methods, **{"message_bytes_max": 1 << 20, "concurrent_calls_max": 100} | limits)
        servers.append(server)
        return server, await server.start("127.0.0.1:0")

    yield start
    for server in servers:
        await server.stop(0)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    return (
        error.code(),
        error.details() or "",
        {
            str(key): value
            for key, value in cast("Any", error.trailing_metadata() or ())
            if key != "content-length"
        },
    )


def connect(addr: str, options: Any = ()) -> Any:
    """Any, because the stubs of grpcio do not know that serializers may be left out."""
    return grpc.aio.insecure_channel(addr, options=options)


class Idle:
    """A stream that sends one message, then nothing, and tells when its finally has run."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self, _call: Call) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.closed.set()


async def test_a_unary_handler_sees_method_bytes_metadata_and_peer(serve: Serve) -> None:
    seen: list[Call] = []

    async def answer(call: Call) -> bytes:
        seen.append(call)
        return call.request[::-1]

    _, addr = await serve(Methods(unary={"/a.B/C": answer}))
    async with connect(addr) as channel:
        metadata = (("topic", "t"), ("raw-bin", b"\x00\xff"))
        assert await channel.unary_unary("/a.B/C")(b"abc", metadata=metadata) == b"cba"
    assert (seen[0].method, seen[0].request) == ("/a.B/C", b"abc")
    assert seen[0].metadata["topic"] == "t"
    assert seen[0].metadata["raw-bin"] == b"\x00\xff"
    assert seen[0].peer.startswith("ipv4:127.0.0.1:")


async def test_a_stream_arrives_whole_and_in_order(serve: Serve) -> None:
    async def count(call: Call) -> AsyncIterator[bytes]:
        for number in range(int(call.request)):
            yield b"%d" % number

    _, addr = await serve(Methods(stream={"/a.B/S": count}))
    async with connect(addr) as channel:
        received = [message async for message in channel.unary_stream("/a.B/S")(b"500")]
    assert received == [b"%d" % number for number in range(500)]


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    _, addr = await serve(Methods())
    async with connect(addr) as channel:
        code, _, _ = await status_of(channel.unary_unary("/a.B/Nope")(b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_an_unknown_method_is_refused_in_the_ports_own_words(serve: Serve) -> None:
    def unknown(name: str) -> RpcError:
        return RpcError(StatusCode.UNIMPLEMENTED, f"ask elsewhere for {name}", {"error-message-bin": b"x"})

    _, addr = await serve(Methods(unknown=unknown))
    async with connect(addr) as channel:
        for call in (channel.unary_unary("/a.B/Nope")(b""), channel.unary_stream("/a.B/Nope")(b"").read()):
            code, text, trailers = await status_of(call)
            assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "ask elsewhere for /a.B/Nope")
            assert trailers["error-message-bin"] == b"x"


async def test_a_name_cannot_be_unary_and_stream_at_once() -> None:
    async def answer(_call: Call) -> bytes:
        return b""

    with pytest.raises(ValueError, match="as stream: /a"):
        RpcServer(
            Methods({"/a.B/C": answer}, {"/a.B/C": Idle()}), message_bytes_max=1, concurrent_calls_max=1
        )


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_an_rpc_error_arrives_with_code_message_and_trailers(serve: Serve, code: StatusCode) -> None:
    async def fail(_call: Call) -> bytes:
        raise RpcError(code, "naïve: 100 % wrong", {"error-message-bin": b"\x00\x01\xfe", "reason": "why"})

    async def fail_streaming(_call: Call) -> AsyncIterator[bytes]:
        yield b"one"
        raise RpcError(code, "later", {"error-message-bin": b"\xff"})

    _, addr = await serve(Methods({"/a.B/C": fail}, {"/a.B/S": fail_streaming}))
    async with connect(addr) as channel:
        got, text, trailers = await status_of(channel.unary_unary("/a.B/C")(b""))
        assert (got.value[0], text) == (code, "naïve: 100 % wrong")
        assert trailers["error-message-bin"] == b"\x00\x01\xfe"
        assert trailers["reason"] == "why"
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"one"
        got, text, trailers = await status_of(stream.read())
        assert (got.value[0], text, trailers["error-message-bin"]) == (code, "later", b"\xff")


@pytest.mark.parametrize("letter", ["x", "ä", "\N{GRINNING FACE}", "%"])
async def test_a_status_as_long_as_a_clients_own_words_still_arrives(serve: Serve, letter: str) -> None:
    async def fail(_call: Call) -> bytes:
        trailers = {"large-bin": bytes(50_000), "small-bin": b"\x01"}
        raise RpcError(StatusCode.NOT_FOUND, f"there is no {letter * 50_000}", trailers)

    _, addr = await serve(Methods({"/a.B/C": fail}))
    with capture_logs() as logs:
        async with connect(addr) as channel:
            code, text, trailers = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.startswith(f"there is no {letter}")
    assert trailers == {"small-bin": b"\x01"}
    assert logs[0]["trailers"] == ["large-bin"]


async def test_a_malformed_status_is_internal_and_logged(serve: Serve) -> None:
    async def fail(_call: Call) -> bytes:
        raise RpcError(StatusCode.NOT_FOUND, "secret", {"no-suffix": b"\x00"})

    _, addr = await serve(Methods({"/a.B/C": fail}))
    with capture_logs() as logs:
        async with connect(addr) as channel:
            code, text, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert (code, text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert logs[0]["event"] == "rpc_status_malformed"


async def test_a_known_exception_gets_the_status_that_on_error_gives(serve: Serve) -> None:
    async def fail(_call: Call) -> bytes:
        raise KeyError("x")

    def on_error(error: Exception) -> RpcError | None:
        return RpcError(StatusCode.NOT_FOUND, "no x") if isinstance(error, KeyError) else None

    _, addr = await serve(Methods({"/a.B/C": fail}, on_error=on_error))
    async with connect(addr) as channel:
        code, text, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "no x")


@pytest.mark.parametrize("failure", [RuntimeError("secret"), asyncio.CancelledError("secret")])
@pytest.mark.parametrize("mapping_fails", [False, True])
async def test_an_unknown_exception_is_internal_is_logged_and_does_not_leak(
    serve: Serve, failure: BaseException, mapping_fails: bool
) -> None:
    async def fail(_call: Call) -> bytes:
        raise failure

    async def fail_streaming(_call: Call) -> AsyncIterator[bytes]:
        yield b"one"
        raise failure

    def on_error(_error: Exception) -> RpcError | None:
        if mapping_fails:
            raise ValueError("secret")
        return None

    _, addr = await serve(Methods({"/a.B/C": fail}, {"/a.B/S": fail_streaming}, on_error=on_error))
    with capture_logs() as logs:
        async with connect(addr) as channel:
            unary = await status_of(channel.unary_unary("/a.B/C")(b""))
            stream = channel.unary_stream("/a.B/S")(b"")
            assert await stream.read() == b"one"
            streamed = await status_of(stream.read())
    for code, text, trailers in (unary, streamed):
        assert (code, text, trailers) == (grpc.StatusCode.INTERNAL, "internal error", {})
    failed = [log for log in logs if log["event"] == "rpc_failed"]
    assert [log["method"] for log in failed] == ["/a.B/C", "/a.B/S"]
    assert all(log["exc_info"] for log in failed)


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


class Wire:
    """A TCP relay whose cable can be cut: silently (packets are dropped) or by a reset."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.addr = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._upstream.split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers += [writer, far_writer]
        self._pumps.add(asyncio.create_task(self._pump(reader, far_writer)))
        self._pumps.add(asyncio.create_task(self._pump(far_reader, writer)))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)

    def vanish(self) -> None:
        for writer in self._writers:
            drop_packets(writer.get_extra_info("socket"))

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def test_an_idle_stream_is_closed_when_its_connection_breaks(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}))
    async with Wire(addr) as wire, connect(wire.addr) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        wire.reset()
        await asyncio.wait_for(idle.closed.wait(), NOTICE_S)
        stream.cancel()


def drop_packets(sock: socket.socket) -> None:
    """Have the kernel drop everything that arrives for ``sock``, as if its peer's network were cut."""
    drop_all = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of a packet filter: keep 0 bytes
    code = ctypes.create_string_buffer(drop_all)
    program = struct.pack("HL", 1, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


async def test_a_peer_whose_packets_are_dropped_is_noticed_on_an_idle_stream(serve: Serve) -> None:
    idle = Idle()
    _, addr = await serve(Methods(stream={"/a.B/S": idle}), keepalive_s=1, keepalive_timeout_s=5)
    async with Wire(addr) as wire, connect(wire.addr) as channel:
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


async def test_an_answer_may_be_larger_than_a_request(serve: Serve) -> None:
    async def large(_call: Call) -> bytes:
        return bytes(8 << 20)

    _, addr = await serve(Methods({"/a.B/C": large}), message_bytes_max=1000)
    unbounded = (("grpc.max_receive_message_length", -1),)
    async with connect(addr, options=unbounded) as channel:
        assert len(await channel.unary_unary("/a.B/C")(b"")) == 8 << 20


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


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
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


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100],
    ids=["http1", "zeros", "bad-frames"],
)
async def test_wire_noise_on_one_connection_does_not_disturb_others(serve: Serve, noise: bytes) -> None:
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


async def test_a_stream_that_says_it_is_open_sends_its_headers_before_any_message(serve: Serve) -> None:
    release = asyncio.Event()

    async def silent(_call: Call) -> AsyncIterator[bytes | Opened]:
        yield OPENED
        await release.wait()
        yield b"late"

    _, addr = await serve(Methods(stream={"/t/silent": silent}))
    async with connect(addr) as channel:
        call = channel.unary_stream("/t/silent")(b"")
        await asyncio.wait_for(call.initial_metadata(), 5)
        release.set()
        assert [message async for message in call] == [b"late"]


async def test_a_gzip_request_is_read_and_the_client_is_told_what_is_accepted(serve: Serve) -> None:
    seen: list[bytes] = []

    async def keep(call: Call) -> bytes:
        seen.append(call.request)
        return b"ok"

    _, addr = await serve(Methods({"/a.B/C": keep}))
    async with connect(addr) as channel:
        assert await channel.unary_unary("/a.B/C")(bytes(10_000), compression=grpc.Compression.Gzip) == b"ok"
    async with RawClient(addr) as raw:
        assert (await raw.call("/a.B/C", framed([bytes(10_000)])))["grpc-accept-encoding"] == "identity,gzip"
    assert seen == [bytes(10_000)] * 2


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
        status = await raw.call("/a.B/C", framed([b""]), [("grpc-timeout", "50m")])
        assert status["grpc-status"] == "4"
        assert ended.is_set()
        status = await raw.call("/a.B/S", framed([b""]), [("grpc-timeout", "50m")])
        assert status["grpc-status"] == "4"
        assert idle.closed.is_set()


class RawClient:
    """An HTTP/2 client that sends what gRPC libraries would not."""

    def __init__(self, addr: str) -> None:
        self._addr = addr
        self._h2 = h2.connection.H2Connection()

    async def __aenter__(self) -> Self:
        host, port = self._addr.split(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._h2.initiate_connection()
        self._writer.write(self._h2.data_to_send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(
        self,
        path: str,
        body: bytes,
        headers: Sequence[tuple[str, str]] = (),
        *,
        te: bool = True,
        **pseudo: str,
    ) -> dict[str, str]:
        """All headers and trailers of the answer; ``reset`` is the error code of a stream that was reset."""
        stream = self._h2.get_next_available_stream_id()
        fixed = {"method": "POST", "scheme": "http", "authority": "x", "path": path} | pseudo
        trailers = [("te", "trailers")] if te else []
        kind = [] if any(name == "content-type" for name, _ in headers) else [GRPC]
        self._h2.send_headers(
            stream, [*((f":{name}", value) for name, value in fixed.items()), *kind, *trailers, *headers]
        )
        self._h2.send_data(stream, body, end_stream=True)
        self._writer.write(self._h2.data_to_send())
        answer: dict[str, str] = {}
        while True:
            for event in self._h2.receive_data(await asyncio.wait_for(self._reader.read(65536), NOTICE_S)):
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    answer |= {name.decode(): value.decode() for name, value in event.headers or ()}
                elif isinstance(event, h2.events.StreamReset):
                    return answer | {"reset": str(event.error_code)}
                elif isinstance(event, h2.events.StreamEnded):
                    return answer
            self._writer.write(self._h2.data_to_send())


GRPC = ("content-type", "application/grpc")


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
        assert (await raw.call("/a.B/C", body, headers))["grpc-status"] == str(status)
        assert (await raw.call("/a.B/C", framed([b""])))["grpc-status"] == "0"


async def test_what_is_no_grpc_call_is_refused_in_words(serve: Serve) -> None:
    _, addr = await serve(Methods())
    async with RawClient(addr) as raw:
        for kind in ("application/json", "application/grpc+json"):
            assert (await raw.call("/a.B/C", b"{}", [("content-type", kind)]))[":status"] == "415"
        assert (await raw.call("/a.B/C", b"", method="PUT"))[":status"] == "405"
        assert (await raw.call("/a.B/C", b"", te=False))[":status"] == "400"
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


async def test_many_messages_in_one_piece_arrive_one_by_one(serve: Serve) -> None:
    async def pieces(_call: Call) -> AsyncIterator[list[bytes]]:
        yield [b"1", b"", b"3"]
        yield [bytes(100_000)] * 10

    _, addr = await serve(Methods(stream={"/a.B/S": pieces}))
    async with connect(addr) as channel:
        received = [message async for message in channel.unary_stream("/a.B/S")(b"")]
    assert received == [b"1", b"", b"3", *[bytes(100_000)] * 10]
