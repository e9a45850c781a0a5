"""Floods on one connection: the server stays small, and other clients are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import hpack
import pytest

from danube_common.rpc.grpc_framing import PREFIX, framed
from danube_harness.rpc.raw_http2 import RawAnswer, RawClient, RawStream

pytestmark = pytest.mark.server

SERVICE = Path(__file__).parent / "flooded_service.py"
CALLS_MAX, MESSAGE_BYTES_MAX = 400, 1 << 20
"""As in the service."""
GROWTH_BYTES_MAX = 48 << 20
CONNECTION_BYTES_MAX = 16 << 10
LATENCY_S_MAX = 5.0
"""For a machine that is busy; the figures are printed."""
FLOOD_S_MAX = 20.0
FRAMES = 20_000
OTHER_HOST = "127.0.0.2"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 2, 3, 4, 6, 8, 9),
)
END_HEADERS = 4


class Flooded:
    """The server's process."""

    def __init__(self, process: subprocess.Popen[str], addr: str) -> None:
        self.addr = addr
        self._statm = Path(f"/proc/{process.pid}/statm")

    @property
    def memory_bytes(self) -> int:
        return int(self._statm.read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def server() -> Iterator[Flooded]:
    with subprocess.Popen(
        [sys.executable, SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Flooded(process, process.stdout.readline().strip())
        assert process.poll() is None, "the server has died"
        process.communicate("", timeout=30)
    assert process.returncode == 0


@asynccontextmanager
async def others_are_served(server: Flooded, growth_bytes_max: int = GROWTH_BYTES_MAX) -> AsyncIterator[None]:
    """Meanwhile another client calls all the time: no call fails or waits long, and memory stays bounded."""
    latencies_s: list[float] = []
    served = asyncio.Event()
    before = server.memory_bytes

    async def call() -> None:
        async with RawClient(server.addr, own_host=OTHER_HOST) as client:
            while True:
                began = time.monotonic()
                assert (await client.call("/a.B/Echo", framed([b"x"]))).messages == [b"x"]
                latencies_s.append(time.monotonic() - began)
                served.set()
                await asyncio.sleep(0.005)

    calling = asyncio.create_task(call())
    try:
        await asyncio.wait_for(served.wait(), LATENCY_S_MAX)
        yield
        served.clear()
        await asyncio.wait_for(served.wait(), LATENCY_S_MAX)
    finally:
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
    grown = server.memory_bytes - before
    print(  # noqa: T201 - the issue's figures
        f"others: {len(latencies_s)} calls, {max(latencies_s) * 1e3:.0f} ms at most; {grown >> 10} KiB more"
    )
    assert max(latencies_s) < LATENCY_S_MAX
    assert grown < growth_bytes_max


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(*more: tuple[str, str]) -> bytes:
    fixed = [
        *((":method", "POST"), (":scheme", "http"), (":path", "/a.B/Echo"), (":authority", "x")),
        *(("content-type", "application/grpc"), ("te", "trailers")),
    ]
    return bytes(hpack.Encoder().encode([*fixed, *more], huffman=False))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
CALL = header_block()


def rapid_reset() -> Iterator[bytes]:
    for number in range(1, 2 * FRAMES, 2):
        yield frame(HEADERS, END_HEADERS, number, CALL) + frame(RST_STREAM, 0, number, struct.pack(">I", 8))


def headers_without_end() -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, CALL)
    for number in range(FRAMES):
        yield frame(CONTINUATION, 0, 1, bytes(hpack.Encoder().encode([(f"x-{number}", "y" * 100)])))


def large_headers() -> Iterator[bytes]:
    """100 000 bytes, which begin with a HEADERS frame."""
    block = header_block(("x", "y" * 100_000))
    size = 1 << 14
    yield frame(HEADERS, 0, 1, block[:size])
    for at in range(size, len(block), size):
        yield frame(CONTINUATION, END_HEADERS if at + size >= len(block) else 0, 1, block[at : at + size])


def repeated(kind: int, stream: int, payload: bytes, opening: bytes = b"") -> Callable[[], Iterator[bytes]]:
    def flood() -> Iterator[bytes]:
        yield opening
        for _ in range(FRAMES):
            yield frame(kind, 0, stream, payload)

    return flood


def empty_pieces() -> Iterator[bytes]:
    yield from repeated(CONTINUATION, 1, b"", frame(HEADERS, 0, 1, CALL))()


def indexed_headers() -> Iterator[bytes]:
    """16 KiB of references to one header of 4 KiB: 64 MiB once decoded."""
    block = CALL + bytes(hpack.Encoder().encode([("x", "y" * 3900)], huffman=False)) + b"\xbe" * 12_000
    yield frame(HEADERS, END_HEADERS, 1, block)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            data = data[-(1 << 16) :] + piece
    return data


ENDED = ["rapid reset", "headers without end", "large headers"]
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid reset": rapid_reset,
    "headers without end": headers_without_end,
    "large headers": large_headers,
    "empty continuations": empty_pieces,
    "indexed headers": indexed_headers,
    "settings": repeated(SETTINGS, 0, struct.pack(">HI", 3, 100)),
    "pings": repeated(PING, 0, b"12345678"),
    "priorities": repeated(PRIORITY, 1, struct.pack(">IB", 0, 16)),
    "windows": repeated(WINDOW_UPDATE, 0, struct.pack(">I", 1)),
    "empty data": repeated(DATA, 1, b"", frame(HEADERS, END_HEADERS, 1, CALL)),
}


@pytest.mark.parametrize(
    ("name", "read"), [*((name, True) for name in FLOODS), ("settings", False), ("pings", False)]
)
async def test_a_flood_of_frames_harms_only_its_connection(server: Flooded, name: str, read: bool) -> None:
    host, port = server.addr.split(":")
    async with others_are_served(server):
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = asyncio.create_task(read_to_the_end(reader)) if read else None
        writer.write(PREFACE)
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(FLOOD_S_MAX):
                for piece in FLOODS[name]():
                    writer.write(piece)
                    if (sent := sent + 1) % 100 == 0:
                        await writer.drain()
                        await asyncio.sleep(0)
        if name in ENDED:
            assert answers is not None
            await asyncio.wait_for(answers, FLOOD_S_MAX)
        writer.close()
        if answers is not None:
            await answers


async def test_calls_without_a_whole_request_keep_nobody_out_and_end(server: Flooded) -> None:
    """One host fills the bound with calls that never send their request."""
    async with RawClient(server.addr) as client, RawClient(server.addr) as slow:
        async with others_are_served(server):
            refused, ended = await first_refused_and_first_ended(client)
        assert "concurrent_calls_max" in refused.headers["grpc-message"]
        assert "in time" in ended.headers["grpc-message"]
        trickling = asyncio.create_task(trickle(stream := slow.open("/a.B/Echo")))
        assert (await stream.end()).status == "4"
        trickling.cancel()
    async with RawClient(server.addr) as client:
        assert (await client.call("/a.B/Echo", framed([b"x"]))).status == "0"


async def first_refused_and_first_ended(client: RawClient) -> tuple[RawAnswer, RawAnswer]:
    """Keep more calls open than the bound allows, in whatever order they arrive; return two answers."""
    streams: list[RawStream] = []

    def first(status: str) -> RawAnswer | None:
        return next((stream.answer for stream in streams if stream.answer.status == status), None)

    async with asyncio.timeout(FLOOD_S_MAX):
        while (refused := first("8")) is None:
            lasting = sum(not stream.answer.ended for stream in streams)
            streams += [client.open("/a.B/Echo") for _ in range(CALLS_MAX + 50 - lasting)]
            await client.receive()
        while (ended := first("4")) is None:
            await client.receive()
    return refused, ended


async def trickle(stream: RawStream) -> None:
    """Send a message of which one byte comes now and then."""
    stream.send(PREFIX.pack(0, 1000))
    while True:
        stream.send(b"x")
        await asyncio.sleep(0.2)


async def test_small_messages_that_are_large_once_decompressed_are_refused(server: Flooded) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    assert len(bomb) < MESSAGE_BYTES_MAX
    message = PREFIX.pack(1, len(bomb)) + bomb
    async with others_are_served(server):
        for _ in range(20):
            async with RawClient(server.addr) as client:
                stream = client.open("/a.B/Echo", [("grpc-encoding", "gzip")])
                stream.send(message, end=True)
                assert (await stream.end()).status == "8"


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_ten_thousand_idle_connections_keep_nobody_out_and_cost_little(server: Flooded) -> None:
    count = 10_000
    host, port = server.addr.split(":")
    async with others_are_served(server, GROWTH_BYTES_MAX + count * CONNECTION_BYTES_MAX):
        opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for number in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            if number % 2:
                writer.write(PREFACE)
            opened.append((reader, writer))
        # Those that have not said what they speak are closed.
        silent = [asyncio.create_task(read_to_the_end(reader)) for reader, _ in opened[::2]]
        _done, open_still = await asyncio.wait(silent, timeout=30)
        assert not open_still
        for _, writer in opened:
            writer.close()


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "begun",
    [b"GET / HTTP/1.1\r\nHost: x\r\n", PREFACE + frame(HEADERS, 0, 1, CALL)],
    ids=["http1", "http2"],
)
async def test_a_head_that_never_ends_closes_its_connection(server: Flooded, begun: bytes) -> None:
    host, port = server.addr.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(begun)
    await asyncio.wait_for(read_to_the_end(reader), 30)
    writer.close()
