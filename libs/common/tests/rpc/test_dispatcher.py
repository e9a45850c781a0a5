from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from danube_common.rpc.call_counts import CallCounts
from danube_common.rpc.dispatcher import Dispatcher
from danube_common.rpc.first_step import ENDED
from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.port import OPENED, Call, Framed, Methods, Opened, RpcError, StatusCode
from danube_common.rpc.request import MessageLimit
from danube_common.rpc.running import HeldBytes, Running
from danube_common.tracing.current import current_ids
from danube_harness.rpc.calls import Serve, connect, status_of


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


async def test_many_messages_in_one_piece_arrive_one_by_one(serve: Serve) -> None:
    async def pieces(_call: Call) -> AsyncIterator[list[bytes] | Framed]:
        yield [b"1", b"", b"3"]
        yield [bytes(100_000)] * 10
        yield Framed(framed([b"a", b"", b"c"]))

    _, addr = await serve(Methods(stream={"/a.B/S": pieces}))
    async with connect(addr) as channel:
        received = [message async for message in channel.unary_stream("/a.B/S")(b"")]
    assert received == [b"1", b"", b"3", *[bytes(100_000)] * 10, b"a", b"", b"c"]


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


async def test_an_answer_may_be_larger_than_a_request(serve: Serve) -> None:
    async def large(_call: Call) -> bytes:
        return bytes(8 << 20)

    _, addr = await serve(Methods({"/a.B/C": large}), message_bytes_max=1000)
    unbounded = (("grpc.max_receive_message_length", -1),)
    async with connect(addr, options=unbounded) as channel:
        assert len(await channel.unary_unary("/a.B/C")(b"")) == 8 << 20


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


@pytest.mark.parametrize("failure", [LookupError("secret"), asyncio.CancelledError("secret")])
async def test_a_failure_before_a_handler_waits_is_internal_and_logged(
    serve: Serve, failure: BaseException
) -> None:
    def fail(_call: Call) -> bytes:
        raise failure

    _, addr = await serve(Methods({"/a.B/C": fail}))
    with capture_logs() as logs:
        async with connect(addr) as channel:
            code, text, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert (code, text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert [log["event"] for log in logs] == ["rpc_failed"]


async def test_a_call_that_waits_for_nothing_has_no_task_also_after_one_that_waited(serve: Serve) -> None:
    tasks: list[object] = []

    async def late(call: Call) -> bytes:
        await asyncio.sleep(0)
        return call.request

    def answer(call: Call) -> bytes | Awaitable[bytes]:
        assert current_ids() == {"call": call.ids()["call"]}
        if call.request == b"late":
            return late(call)
        tasks.append(asyncio.current_task())
        return call.request

    _, addr = await serve(Methods({"/a.B/C": answer}))
    async with connect(addr) as channel:
        for request in (b"late", *[b"x"] * 5):  # of one the end may not have arrived
            assert await channel.unary_unary("/a.B/C")(request) == request
    assert None in tasks, "the library calls an event that has arrived by another name"


@pytest.mark.parametrize("waits", [False, True])
async def test_answers_that_their_client_takes_slowly_arrive_whole(serve: Serve, waits: bool) -> None:
    size, at_once = 1 << 20, 20

    async def late(call: Call) -> bytes:
        await asyncio.sleep(0)
        return call.request * size

    def answer(call: Call) -> bytes | Awaitable[bytes]:
        return late(call) if waits else call.request * size

    _, addr = await serve(Methods({"/a.B/C": answer}))
    options = [("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)]
    async with connect(addr, options) as channel:
        answers = await asyncio.gather(*(channel.unary_unary("/a.B/C")(b"x") for _ in range(at_once)))
    assert answers == [b"x" * size] * at_once


async def cancelled_from_outside(_call: Call) -> bytes:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)
    return b""


async def cancelled_stream(call: Call) -> AsyncIterator[bytes]:
    yield await cancelled_from_outside(call)


async def test_a_call_that_somebody_else_cancels_gets_a_status(serve: Serve) -> None:
    methods = Methods({"/a.B/C": cancelled_from_outside}, {"/a.B/S": cancelled_stream})
    _, addr = await serve(methods)
    async with connect(addr) as channel:
        unary = await status_of(channel.unary_unary("/a.B/C")(b""))
        streamed = await status_of(channel.unary_stream("/a.B/S")(b"").read())
    assert unary == streamed == (grpc.StatusCode.CANCELLED, "the call was cancelled", {})


Events = list[dict[str, Any]]
CALLS_MAX = 10
SCOPE = {
    "type": "http",
    "http_version": "2",
    "method": "POST",
    "extensions": {},
    "client": ("127.0.0.1", 1),
    "headers": [(b"content-type", b"application/grpc"), (b"te", b"trailers")],
}


class _ReadyAwaitable:
    """An event that has arrived, by the name that the library gives it."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event

    def send(self, _: None) -> None:
        raise StopIteration(self._event)


class _ReadyNone:
    """What is returned for an event that was sent, by the name that the library gives it."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


async def test_a_call_that_is_answered_at_once_leaves_no_ids_to_what_comes_next() -> None:
    loop = asyncio.get_running_loop()
    dispatcher = dispatcher_of(lambda call: call.ids()["call"].encode())
    dispatcher.run_first_steps(loop)
    handed_over, sent = loop.create_future(), list[Any]()

    def send(event: Any) -> _ReadyNone:
        sent.append(event)
        return _ReadyNone()

    event = {"type": "http.request", "body": framed([b"x"])}

    def hand_over() -> None:
        ended = dispatcher(SCOPE | {"path": "/a.B/C"}, lambda: _ReadyAwaitable(event), send)
        handed_over.set_result((ended, current_ids()))

    loop.call_soon(hand_over)
    assert await handed_over == (ENDED, {})
    assert len(sent) == 3


async def test_of_calls_handed_over_together_no_handler_runs_of_one_that_is_refused() -> None:
    loop = asyncio.get_running_loop()
    called, go_on, answering = list[str](), asyncio.Event(), loop.create_future()

    async def wait() -> bytes:
        await go_on.wait()
        return b"answer"

    def answer(call: Call) -> Awaitable[bytes]:
        called.append(call.method)
        return wait()

    names = [f"/a.B/C{number}" for number in range(CALLS_MAX + 2)]
    dispatcher = dispatcher_of(answer, names=names)
    dispatcher.run_first_steps(loop)
    event = {"type": "http.request", "body": framed([b"x"])}
    sent: dict[str, list[Any]] = {name: [] for name in names}

    def hand_over(name: str) -> Any:
        def send(event: Any) -> _ReadyNone:
            sent[name].append(event)
            return _ReadyNone()

        return dispatcher(SCOPE | {"path": name}, lambda: _ReadyAwaitable(event), send)

    def hand_over_all() -> None:
        calls = [hand_over(name) for name in names]
        answering.set_result([loop.create_task(call) for call in calls])

    loop.call_soon(hand_over_all)
    tasks = await answering
    assert called == names[:CALLS_MAX]
    go_on.set()
    for task in tasks:
        await task
    assert all(len(sent[name]) == 3 for name in called)
    assert [status_in(sent[name]) for name in names[CALLS_MAX:]] == [b"8"] * 2


async def events_of(path: str, received: Events, guard: Any = None) -> Events:
    """Return what is sent for a call, in a task, whose request is these events."""
    sent: Events = []

    async def receive() -> Any:
        return received.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    dispatcher = dispatcher_of(lambda _: b"answer", guard)
    await dispatcher(SCOPE | {"path": path}, receive, send)
    return sent


def dispatcher_of(
    handler: Callable[[Call], bytes | Awaitable[bytes]],
    guard: Any = None,
    names: Sequence[str] = ("/a.B/C",),
) -> Any:
    held = HeldBytes(1000)
    methods = Methods(dict.fromkeys(names, handler), {"/a.B/S": cancelled_stream})
    calls, streams = Running("calls", CALLS_MAX, held), Running("streams", CALLS_MAX, held)
    return Dispatcher(methods, MessageLimit(1000, ""), calls, streams, CallCounts(None), guard)


def status_in(sent: Events) -> object:
    return dict(sent[0]["headers"])[b"grpc-status"]


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize("path", ["/a.B/C", "/a.B/S"])
@pytest.mark.parametrize(
    "received", [[GONE], [{"type": "http.request", "body": framed([b"x"]), "more_body": True}, GONE]]
)
async def test_a_request_that_does_not_end_gets_a_status_too(path: str, received: Events) -> None:
    assert status_in(await events_of(path, [*received])) == b"1"


@pytest.mark.parametrize("path", ["/a.B/C", "/a.B/S"])
async def test_a_call_that_is_cancelled_while_its_caller_is_admitted_gets_a_status(path: str) -> None:
    class Cancelled:
        def known(self, *_: object) -> None:
            return None

        async def admit(self, *_: object) -> None:
            raise asyncio.CancelledError

    assert status_in(await events_of(path, [], Cancelled())) == b"1"
