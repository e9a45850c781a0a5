"""Health and metrics over HTTP: bounded, not to be tricked, and over TLS whose certificate changes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from danube_common.runtime import http, http_servers
from danube_common.runtime.http import CONNECTIONS_MAX, Health, HttpServer
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.tls_config import TlsConfig
from danube_harness.rpc.certificates import Authority

ANSWER_S_MAX = 20.0


@asynccontextmanager
async def served(tls: TlsConfig | None = None) -> AsyncIterator[tuple[str, int]]:
    server = HttpServer(Health(), Metrics("test", "1"), tls or TlsConfig(), dict)
    url = await server.start("127.0.0.1:0")
    scheme, _, addr = url.partition("://")
    assert scheme == ("https" if tls else "http")
    host, _, port = addr.rpartition(":")
    try:
        yield host, int(port)
    finally:
        await server.stop()


async def asked(
    addr: tuple[str, int], request: bytes, trusted: ssl.SSLContext | None = None, name: str = ""
) -> bytes:
    """Send bytes and return all that comes until the server closes the connection."""
    connection = asyncio.open_connection(*addr, ssl=trusted, server_hostname=name or None)
    reader, writer = await asyncio.wait_for(connection, ANSWER_S_MAX)
    writer.write(request)
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        data = await asyncio.wait_for(reader.read(-1), ANSWER_S_MAX)
    writer.close()
    return data


READY = Path(__file__).parents[4] / "deploy" / "docker" / "ready.py"


def is_ready(port: int) -> bool:
    """What a container's health check finds."""
    program = READY.read_text().replace("PORT: Final = 9040", f"PORT: Final = {port}")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, check=False, timeout=30
    )
    assert b"checks" in done.stdout
    return done.returncode == 0


GET = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_probes_of_every_kind_are_answered() -> None:
    async with served() as addr:
        for path in (b"/livez", b"/readyz", b"/metrics"):
            assert (await asked(addr, GET.replace(b"/livez", path))).split(b" ", 2)[1] == b"200"
        assert await asyncio.to_thread(is_ready, addr[1])
        assert (await asked(addr, GET.replace(b"GET", b"HEAD"))).endswith(b"\r\n\r\n")
        assert (await asked(addr, GET.replace(b"/livez", b"/else"))).split(b" ", 2)[1] == b"404"
        assert (await asked(addr, GET.replace(b"GET", b"PUT"))).split(b" ", 2)[1] == b"405"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0, 40\r\n\r\n",
        b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b" Content-Length: 40\r\n\r\n",
        b"Content-Length\x00: 40\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_ambiguous_is_refused_and_hides_no_other(head: bytes) -> None:
    async with served() as addr:
        answer = await asked(addr, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + head + HIDDEN)
        assert answer.split(b" ", 2)[1] in (b"400", b"501")
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_web_socket_is_refused() -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    async with served() as addr:
        answer = await asked(addr, b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + upgrade + key + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403")


async def test_large_heads_and_bodies_are_refused() -> None:
    async with served() as addr:
        large = [
            GET[:-2] + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
            GET[:-2] + b"".join(b"X%d: y\r\n" % number for number in range(1000)) + b"\r\n",
            b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PUT /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n",
        ]
        for request in large:
            answer = await asked(addr, request)
            assert not answer or answer.split(b" ", 2)[1][:1] == b"4"
        assert (await asked(addr, GET)).split(b" ", 2)[1] == b"200"


async def test_connections_are_bounded_and_those_that_say_nothing_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "HEADER_S_MAX", 1.0)
    async with served() as addr:
        begun = b"GET /livez HTTP/1.1\r\nX: "
        waiting = [asyncio.create_task(asked(addr, begun)) for _ in range(CONNECTIONS_MAX * 2)]
        async with asyncio.timeout(ANSWER_S_MAX):
            # That room was made has no event.
            while not (await asked(addr, GET)).startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)


async def test_a_new_certificate_is_taken_while_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_servers, "FILES_POLL_S", 0.05)
    authority = Authority(tmp_path)
    cert, key = authority.issue("server", "before.example")
    trusted = ssl.create_default_context(cafile=str(authority.file))
    async with served(TlsConfig(cert_file=cert, key_file=key)) as addr:
        assert (await asked(addr, GET, trusted, "before.example")).startswith(b"HTTP/1.1 200")
        assert not (await asked(addr, GET)).startswith(b"HTTP")
        assert await asyncio.to_thread(is_ready, addr[1])
        authority.issue("server", "after.example")
        async with asyncio.timeout(ANSWER_S_MAX):
            while True:
                with contextlib.suppress(ssl.SSLCertVerificationError, ConnectionError):
                    assert (await asked(addr, GET, trusted, "after.example")).startswith(b"HTTP/1.1 200")
                    break
                # The server before may close what it has accepted and not answered.
                with contextlib.suppress(ssl.SSLCertVerificationError, ConnectionError):
                    answer = await asked(addr, GET, trusted, "before.example")
                    assert not answer or answer.startswith(b"HTTP/1.1 200")
