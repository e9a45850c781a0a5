from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from danube_harness.faults.tcp_proxy import HOST, Flow, TcpProxy

UNHEARD_S = 0.1
"""How long a test listens for what must not come."""


class Echo:
    """Answers each line with itself and keeps what it heard."""

    def __init__(self) -> None:
        self.heard = asyncio.Queue[bytes]()
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.put_nowait(line)
                writer.write(line)
            self.heard.put_nowait(b"")
        except ConnectionError:
            self.heard.put_nowait(b"reset")
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.answer, HOST, 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.run(lambda: f"{HOST}:{echo.port}") as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: TcpProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = proxy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def silence(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), UNHEARD_S)


async def test_bytes_pass_both_ways_and_an_end_is_passed_on(proxy: TcpProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        assert proxy.connections == 1
        writer.write_eof()
        assert await reader.readline() == b""
    assert [await echo.heard.get(), await echo.heard.get()] == [b"one\n", b""]


async def test_what_is_held_arrives_once_healed_and_on_the_same_connection(
    proxy: TcpProxy, echo: Echo
) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.up.flow = Flow.HOLD
        writer.write(b"late\n")
        await silence(reader)
        assert echo.heard.empty()
        proxy.heal()
        assert await reader.readline() == b"late\n"


async def test_one_way_can_be_shut_alone(proxy: TcpProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.down.flow = Flow.HOLD
        writer.write(b"heard\n")
        assert await echo.heard.get() == b"heard\n"
        await silence(reader)
        proxy.heal()
        assert await reader.readline() == b"heard\n"


async def test_swallowed_bytes_never_come_and_healing_cuts_the_connection(
    proxy: TcpProxy, echo: Echo
) -> None:
    async with connected(proxy) as (reader, writer), connected(proxy) as (other_reader, other_writer):
        other_writer.write(b"before\n")
        assert await other_reader.readline() == b"before\n"
        proxy.up.flow = Flow.SWALLOW
        writer.write(b"gone\n")
        await silence(reader)
        proxy.heal()
        with pytest.raises(ConnectionError):
            await reader.readline()
        other_writer.write(b"after\n")
        assert await other_reader.readline() == b"after\n"
    heard = [echo.heard.get_nowait() for _ in range(echo.heard.qsize())]
    assert b"gone\n" not in heard


async def test_a_delay_holds_each_piece_back(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.down.delay_s = 2 * UNHEARD_S
        writer.write(b"slow\n")
        await silence(reader)
        assert await reader.readline() == b"slow\n"


async def test_a_half_open_connection_is_accepted_and_leads_nowhere(proxy: TcpProxy, echo: Echo) -> None:
    proxy.half_open = True
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello\n")
        await silence(reader)
        assert echo.heard.empty()
        proxy.heal()
        with pytest.raises(ConnectionError):
            await reader.readline()
    async with connected(proxy) as (reader, writer):
        writer.write(b"again\n")
        assert await reader.readline() == b"again\n"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_is_seen_by_both_sides(proxy: TcpProxy, echo: Echo, reset: bool) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        proxy.cut(reset=reset)
        if reset:
            with pytest.raises(ConnectionError):
                await reader.readline()
        else:
            assert await reader.readline() == b""
        assert await echo.heard.get() == b"one\n"
        assert await echo.heard.get() == (b"reset" if reset else b"")


async def test_an_upstream_that_is_away_is_a_connection_that_ends(echo: Echo) -> None:
    async with TcpProxy.run(lambda: f"{HOST}:1") as proxy, connected(proxy) as (reader, writer):
        writer.write(b"anyone\n")
        with suppress(ConnectionError):
            assert await reader.readline() == b""
        assert proxy.connections == 0
