"""Connections to a port are bounded for each address that they come from."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from danube_common.rpc import server as server_module
from danube_common.rpc.connections import _site, close_excess, count_connections
from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.port import Call, Methods
from danube_common.runtime.metrics import Metrics
from danube_harness.rpc.calls import NOTICE_S, Serve
from danube_harness.rpc.raw_http2 import RawClient

LIMIT = 20
OTHER_HOST = "127.0.0.2"
ECHO, WAIT = "/a.B/Echo", "/a.B/Wait"


async def echo(call: Call) -> bytes:
    return call.request


async def wait(_call: Call) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def test_one_address_has_so_many_connections_and_those_with_calls_stay(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LOOK_S", 0.05)
    metrics = Metrics("test", "1")
    methods = Methods({ECHO: echo}, {WAIT: wait})
    _, addr = await serve(methods, connections_per_peer_max=LIMIT, metrics=metrics)
    host, port = addr.split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(LIMIT - 1)]
    async with RawClient(addr) as working, RawClient(addr, own_host=OTHER_HOST) as other:
        stream = working.open(WAIT)
        stream.send(framed([b""]), end=True)
        await stream.until(lambda answer: bool(answer.messages))
        opened += [await asyncio.open_connection(host, int(port)) for _ in range(3 * LIMIT)]
        closed = [asyncio.create_task(reader.read()) for reader, _ in opened]
        async with asyncio.timeout(NOTICE_S):
            while sum(task.done() for task in closed) < 3 * LIMIT:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(3):
            assert (await other.call(ECHO, framed([b"x"]))).messages == [b"x"]
            assert (await working.call(ECHO, framed([b"x"]))).messages == [b"x"]
    assert sum(task.done() for task in closed) <= 3 * LIMIT
    assert b'bound="connections_per_peer_max"} 60.0' in metrics.render()
    for task, (_, writer) in zip(closed, opened, strict=True):
        task.cancel()
        writer.close()
    await asyncio.gather(*closed, return_exceptions=True)


async def until_counted(metrics: Metrics, expected: dict[str, int]) -> None:
    async with asyncio.timeout(NOTICE_S):
        while True:  # a count has no event
            found = re.findall(rb'danube_rpc_connections{state="(\w+)"} (\d+)', metrics.render())
            if {state.decode(): int(count) for state, count in found if int(count)} == expected:
                return
            await asyncio.sleep(0.01)


async def test_a_connection_that_sends_nothing_is_counted_apart_from_those_with_calls(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "COUNT_S", 0.05)
    metrics = Metrics("test", "1")
    _, addr = await serve(Methods({ECHO: echo}, {}), metrics=metrics)
    host, port = addr.split(":")
    _, silent = await asyncio.open_connection(host, int(port))
    with contextlib.closing(silent):
        await until_counted(metrics, {"silent": 1})
        async with RawClient(addr) as caller, RawClient(addr, own_host=OTHER_HOST):
            await caller.call(ECHO, framed([b"x"]))
            await until_counted(metrics, {"silent": 2, "used": 1})
            silent.close()
            await until_counted(metrics, {"silent": 1, "used": 1})
        await until_counted(metrics, {})


@pytest.mark.parametrize(("own", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")])
async def test_a_connection_whose_peer_reads_nothing_is_counted_apart(own: str, host: str) -> None:
    ipv6 = ":" in own
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    with socket.create_server((own, 0), family=family, dualstack_ipv6=ipv6) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)) as peer, listener.accept()[0] as sender:
            called = [(host, peer.getsockname()[1])]
            assert count_connections(port, called) == ({"used": 1}, set(called))
            sender.settimeout(0)
            async with asyncio.timeout(NOTICE_S):
                while not (counts := count_connections(port, called)[0])["stalled"]:
                    with contextlib.suppress(BlockingIOError):
                        sender.send(bytes(1 << 20))
                    await asyncio.sleep(0.01)
            assert counts == {"stalled": 1}


def test_a_connection_that_tcp_has_not_opened_is_a_handshake(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
        "   0: 0100007F:1A0A 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 2 0 100 0 0 10 0\n"
        "  17: 0100007F:1A0A 0200007F:9C41 03 00000000:00000000 01:00000063 00000000 0 0 0 1 0\n"
        "  18: 0100007F:1A0B 0200007F:9C42 03 00000000:00000000 01:00000063 00000000 0 0 0 1 0\n"
    )
    assert count_connections(0x1A0A, (), [tmp_path / "tcp", tmp_path / "absent"]) == ({"handshake": 1}, set())


def test_within_the_bound_nothing_is_looked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            assert close_excess(port, 100_000, ()) == 0


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_who_has_an_address_of_ipv6_has_its_whole_network(host: str, site: str) -> None:
    assert _site(host) == site
