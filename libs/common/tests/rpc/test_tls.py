from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from danube_common.errors import InvalidInput
from danube_common.rpc.port import Call, Methods
from danube_common.runtime import http_servers
from danube_common.runtime.tls_config import TlsConfig
from danube_harness.rpc.calls import NOTICE_S, Serve, connect, status_of
from danube_harness.rpc.certificates import Authority, secure_channel


async def who(call: Call) -> bytes:
    return call.identity.encode()


METHODS = Methods({"/a.B/C": who})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def config(authority: Authority, **more: object) -> TlsConfig:
    cert, key = authority.issue("server")
    return TlsConfig.model_validate({"cert_file": cert, "key_file": key, **more})


async def shown(addr: str) -> str:
    """The certificate that a new connection is shown, as PEM."""
    host, port = addr.split(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def until(condition: Callable[[], bool]) -> None:
    """Until counters say so: they tell nobody, so there is nothing else to wait for."""
    async with asyncio.timeout(2 * NOTICE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def until_another_is_shown(addr: str, before: str) -> None:
    async with asyncio.timeout(2 * NOTICE_S):
        while await shown(addr) == before:
            pass


async def test_calls_go_over_tls_and_plaintext_gets_nowhere(serve: Serve, authority: Authority) -> None:
    _, addr = await serve(METHODS, tls=config(authority))
    async with secure_channel(addr, authority) as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b""
    async with connect(addr) as channel:
        code, _, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_handshakes_that_are_never_finished_end_and_others_go_on(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_common.rpc.server.HANDSHAKE_S_MAX", 1.0)
    _, addr = await serve(METHODS, tls=config(authority))
    host, port = addr.split(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
    for number, (_, writer) in enumerate(opened):
        writer.write(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
    async with secure_channel(addr, authority) as channel, asyncio.timeout(4 * NOTICE_S):
        assert await channel.unary_unary("/a.B/C")(b"", wait_for_ready=True) == b""
        ended = await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
        assert await channel.unary_unary("/a.B/C")(b"", wait_for_ready=True) == b""
    assert {end if isinstance(end, bytes) else type(end) for end in ended} <= {b"", ConnectionResetError}
    for _, writer in opened:
        writer.close()


async def test_a_client_that_trusts_another_authority_does_not_connect(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    _, addr = await serve(METHODS, tls=config(authority))
    async with secure_channel(addr, Authority(tmp_path, "another")) as channel:
        code, _, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("certs", ["optional", "required"])
async def test_the_handler_sees_the_subject_of_the_clients_certificate(
    serve: Serve, authority: Authority, certs: str
) -> None:
    tls = config(authority, client_ca_file=authority.file, client_certs=certs)
    _, addr = await serve(METHODS, tls=tls)
    async with secure_channel(addr, authority, authority.issue("alice")) as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b"CN=alice"
    async with secure_channel(addr, authority) as channel:
        if certs == "optional":
            assert await channel.unary_unary("/a.B/C")(b"") == b""
        else:
            code, _, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
            assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("certs", ["optional", "required"])
async def test_a_client_certificate_of_another_authority_is_refused(
    serve: Serve, authority: Authority, tmp_path: Path, certs: str
) -> None:
    tls = config(authority, client_ca_file=authority.file, client_certs=certs)
    _, addr = await serve(METHODS, tls=tls)
    stranger = Authority(tmp_path, "another").issue("mallory")
    async with secure_channel(addr, authority, stranger) as channel:
        code, _, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_from_1_2_on_are_spoken(
    serve: Serve, authority: Authority, version: ssl.TLSVersion
) -> None:
    _, addr = await serve(METHODS, tls=config(authority))
    context = ssl.create_default_context(cafile=str(authority.file))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    host, port = addr.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cert_file": "missing"}, "certfile: No such file"),
        ({"cert_file": "junk"}, "certfile contains no certificates"),
        ({"key_file": "junk"}, "keyfile contains no unencrypted private key"),
        ({"key_file": "other.key"}, "KeyMismatch"),
        ({"client_ca_file": "junk"}, "ca_certs contains no certificates"),
    ],
)
async def test_files_that_cannot_be_used_are_refused_at_the_start(
    serve: Serve, authority: Authority, tmp_path: Path, change: dict[str, str], text: str
) -> None:
    authority.issue("other")
    (tmp_path / "junk").write_text("junk")
    tls = config(authority, **{name: tmp_path / file for name, file in change.items()})
    with pytest.raises(InvalidInput, match=f"TLS cannot be used: .*{text}"):
        await serve(METHODS, tls=tls)


@pytest.mark.parametrize("fields", [{"cert_file": "x"}, {"key_file": "x"}, {"client_ca_file": "x"}])
def test_settings_that_need_each_other_are_told(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="need"):
        TlsConfig.model_validate(fields)


async def test_a_new_certificate_is_taken_without_a_failed_call_and_open_streams_go_on(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_servers, "FILES_POLL_S", 0.02)
    go = asyncio.Event()

    async def two(_call: Call) -> AsyncIterator[bytes]:
        yield b"before"
        await go.wait()
        yield b"after"

    server, addr = await serve(Methods({"/a.B/C": who}, {"/a.B/S": two}), tls=config(authority))
    before = await shown(addr)
    async with secure_channel(addr, authority) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"before"
        calls, rotated = 0, asyncio.Event()

        async def load() -> None:
            nonlocal calls
            while not rotated.is_set():
                assert await channel.unary_unary("/a.B/C")(b"") == b""
                calls += 1

        loads = [asyncio.create_task(load()) for _ in range(4)]
        authority.issue("server")
        await until_another_is_shown(addr, before)
        at_rotation = calls
        await until(lambda: calls >= at_rotation + 20)
        rotated.set()
        await asyncio.gather(*loads)
        go.set()
        assert await stream.read() == b"after"
        assert await stream.read() is grpc.aio.EOF
    await server.stop(0)


async def test_files_that_do_not_fit_each_other_are_told_and_what_was_before_stays_until_they_do(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_servers, "FILES_POLL_S", 0.02)
    tls = config(authority)
    _, addr = await serve(METHODS, tls=tls)
    before = await shown(addr)
    cert, key = authority.issue("next")
    assert tls.cert_file is not None
    assert tls.key_file is not None
    with capture_logs() as logs:
        tls.cert_file.write_bytes(cert.read_bytes())  # a rotation that has come half of its way
        await until(lambda: any(log["event"] == "tls_files_refused" for log in logs))
        assert await shown(addr) == before
        tls.key_file.write_bytes(key.read_bytes())
        await until_another_is_shown(addr, before)
    async with secure_channel(addr, authority) as channel:
        assert await channel.unary_unary("/a.B/C")(b"") == b""


async def test_a_server_whose_certificate_was_replaced_stops_with_its_open_streams(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_servers, "FILES_POLL_S", 0.02)
    closed = asyncio.Event()

    async def idle(_call: Call) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    server, addr = await serve(Methods(stream={"/a.B/S": idle}), tls=config(authority))
    before = await shown(addr)
    async with secure_channel(addr, authority) as channel:
        stream = channel.unary_stream("/a.B/S")(b"")
        assert await stream.read() == b"first"
        authority.issue("server")
        await until_another_is_shown(addr, before)
        stopping = asyncio.create_task(server.stop(0))
        code, _, _ = await status_of(stream.read())
        assert code is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(stopping, 2 * NOTICE_S)
    assert closed.is_set()
