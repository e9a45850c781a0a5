"""Attacks on a port that asks for credentials."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import h2.exceptions
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from danube_common.cluster import keys
from danube_common.cluster.records import encode_record
from danube_common.errors import InvalidInput
from danube_common.rpc import dispatcher
from danube_common.rpc import guard as guard_module
from danube_common.rpc.grpc_framing import framed
from danube_common.rpc.guard import Guard
from danube_common.rpc.port import OPENED, Call, Methods, Opened, RpcError, StatusCode
from danube_common.runtime.auth_config import AuthConfig
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.tls_config import TlsConfig
from danube_common.security import authenticator as authenticator_module
from danube_common.security import tokens
from danube_common.security.api_keys import PREFIX, ApiKey, new_key
from danube_common.security.audit import AuditLog
from danube_common.security.authenticator import Authenticator
from danube_common.security.authorizer import Resource
from danube_common.security.identity import Identity
from danube_common.security.policies import SecurityPolicies
from danube_common.security.roles import Permission, new_binding
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.rpc.calls import NOTICE_S, Serve, connect, status_of
from danube_harness.rpc.certificates import Authority, secure_channel
from danube_harness.rpc.credentials import ADMIN, bearer, secret_file, token
from danube_harness.rpc.raw_http2 import RawClient
from danube_proto import danube_admin_pb2, danube_api_pb2

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
LOOKUP, CREATE = "/danube.Discovery/TopicLookup", "/danube_admin.NamespaceAdmin/CreateNamespace"
RECEIVE, READ = "/danube.ConsumerService/ReceiveMessages", "/danube.stream.v1.Streaming/Read"


async def who(call: Call) -> bytes:
    assert call.access is not None
    return str(call.access.identity).encode()


async def receive(call: Call) -> AsyncIterator[bytes | Opened]:
    """As a handler whose consumer is on the topic that the request names."""
    call.require(Permission.CONSUME, call.request.decode())
    yield OPENED
    yield b"first"
    await asyncio.Event().wait()


async def forgetful(_call: Call) -> AsyncIterator[bytes]:
    yield b"secret"


METHODS = {
    LOOKUP: who,
    CREATE: who,
    "/danube.AuthService/Authenticate": who,
    "/danube.HealthCheck/HealthCheck": who,
}


class Port:
    """A guarded port, and what is stored beside it."""

    def __init__(self, serve: Serve, folder: Path, stack: AsyncExitStack) -> None:
        self.store = MemoryMetadata()
        self.guard: Guard
        self.authenticator: Authenticator
        self.policies: SecurityPolicies
        self.addr = ""
        self.audit_file = folder / "audit.log"
        self._serve, self._folder, self._stack = serve, folder, stack

    async def start(
        self, tls: TlsConfig | None = None, streams: Any = None, server: Any = None, **auth: Any
    ) -> None:
        config = AuthConfig(
            enabled=True, super_admins=[ADMIN], **{"secret_key_file": secret_file(self._folder)} | auth
        )
        self.policies = await SecurityPolicies.open(self.store, [Identity.parse(ADMIN)])
        self._stack.push_async_callback(self.policies.close)
        self.authenticator = Authenticator(config, self.policies)
        self._stack.push_async_callback(self.authenticator.close)
        await self.authenticator.start()
        audit = AuditLog(self.audit_file)
        audit.start()
        self._stack.callback(audit.close)
        self.metrics = Metrics("test", "1")
        self.guard = Guard(
            self.authenticator, self.policies, self.metrics, audit, audit_required=config.audit_required
        )
        for part in (self.guard, self.authenticator):
            task = asyncio.create_task(part.run())
            self._stack.callback(task.cancel)
        methods = Methods(dict(METHODS), streams or {RECEIVE: receive, READ: receive})
        more = server or {}
        _, self.addr = await self._serve(methods, tls=tls, guard=self.guard, metrics=self.metrics, **more)

    async def bind(self, name: str, role: str, scope: str, resource: str) -> str:
        binding = new_binding(name, "user", name, [role], scope, resource)
        key = keys.binding_key(binding.scope, binding.resource, binding.binding_id)
        await self._put(key, encode_record(binding))
        return key

    async def api_key(self, **more: Any) -> tuple[str, str]:
        sent, key_id, digest = new_key()
        key = keys.api_key_key(key_id)
        await self._put(key, encode_record(ApiKey(key_id, digest, "user", ADMIN, **more)))
        return sent, key

    async def _put(self, key: str, value: bytes) -> None:
        before = self.policies.version
        await self.store.put(key, value)
        async with asyncio.timeout(NOTICE_S):
            while self.policies.version == before:  # noqa: ASYNC110 - a mirror tells nobody
                await asyncio.sleep(0.005)

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]


@pytest.fixture
async def port(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    monkeypatch.setattr(guard_module, "CHECK_S", 0.02)
    monkeypatch.setattr(dispatcher, "DENIED_STREAM_PAUSE_S", 0.0)
    monkeypatch.setattr(authenticator_module, "FILES_POLL_S", 0.02)
    async with AsyncExitStack() as stack:
        yield Port(serve, tmp_path, stack)


def lookup(topic: str) -> bytes:
    return danube_api_pb2.TopicLookupRequest(request_id=1, topic=topic).SerializeToString()


def namespace(name: str) -> bytes:
    return danube_admin_pb2.NamespaceRequest(name=name).SerializeToString()


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", token(ADMIN)),),
        (("authorization", f"Basic {token(ADMIN)}"),),
        (("authorization", "Bearer"),),
        bearer("junk"),
        bearer("dk_0123456789abcdef_" + "A" * 43),
        bearer("dk_"),
        bearer(token(ADMIN, ttl_s=-1)),
        bearer(token(ADMIN, secret="x" * 40)),
        (("x-danube-internal-broker", "true"),),
        (("x-danube-internal-broker", ADMIN), ("x-forwarded-user", ADMIN), ("x-client-cert", "CN=root")),
        (("cookie", f"token={token(ADMIN)}"), ("x-api-key", token(ADMIN))),
        (("token", token(ADMIN)), ("proxy-authorization", f"Bearer {token(ADMIN)}")),
    ],
)
async def test_without_a_credential_that_proves_something_no_handler_is_called(
    port: Port, metadata: Any
) -> None:
    await port.start()
    async with connect(port.addr) as channel:
        code, text, _ = await status_of(channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=metadata))
    assert code is UNAUTHENTICATED
    assert token(ADMIN).rpartition(".")[2] not in text


async def test_a_token_in_the_query_is_no_credential(port: Port) -> None:
    await port.start()
    async with connect(port.addr) as channel:
        call = channel.unary_unary(f"{LOOKUP}?access_token={token(ADMIN)}")(lookup("/a/b"))
        code, _, _ = await status_of(call)
    assert code in (UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.parametrize(
    "path",
    [
        *(f"{CREATE}/", f"/{CREATE}", f"{CREATE}?x", f"{CREATE}#x", f"{CREATE};x", f"/x/..{CREATE}"),
        *(CREATE.lower(), CREATE.replace(".", "%2e"), CREATE.replace("/C", "%2fC"), f"{CREATE}%00"),
        *(f"http://x{CREATE}", CREATE[1:], f"{CREATE} ", f"{CREATE}\t"),
    ],
)
async def test_no_spelling_of_a_path_goes_around_the_guard(port: Port, path: str) -> None:
    await port.start()
    async with RawClient(port.addr) as client:
        try:
            answer = await client.call(path, framed([namespace("stolen")]))
        except (OSError, AssertionError, h2.exceptions.ProtocolError):
            answer = None  # it is no path
    assert answer is None or answer.messages == []
    assert not [line for line in port.audited() if line["allowed"]]


async def test_a_token_names_the_caller_and_is_verified_once_for_a_connection(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    await port.start()
    seen: list[str] = []
    verify = tokens.verify_token

    def counted(text: str, *rest: Any) -> Any:
        seen.append(text)
        return verify(text, *rest)

    monkeypatch.setattr(authenticator_module, "verify_token", counted)
    async with connect(port.addr) as channel:
        for _ in range(20):
            answer = await channel.unary_unary(LOOKUP)(
                lookup("/a/b"), metadata=bearer(token(ADMIN, iat=1, exp=2e9))
            )
            assert answer == b"user:root"
    assert len(seen) == 1


async def test_one_connection_may_carry_several_identities(port: Port) -> None:
    await port.start()
    await port.bind("alice", "viewer", "topic", "/a/b")
    async with connect(port.addr) as channel:
        call = channel.unary_unary(LOOKUP)
        for name in ("alice", ADMIN, "alice"):
            assert await call(lookup("/a/b"), metadata=bearer(token(name))) == f"user:{name}".encode()
        assert (await status_of(call(lookup("/a/b"), metadata=bearer(token("bob")))))[0] is DENIED


@pytest.mark.parametrize(
    "name", ["/a/c", "/b/b", "/a/b/../c", "/a/b%2f..%2fc", "/a/\u0432", "", "a/b", "/A/b"]
)
async def test_what_no_binding_covers_is_denied_and_recorded(port: Port, name: str) -> None:
    await port.start()
    await port.bind("alice", "viewer", "topic", "/a/b*")
    async with connect(port.addr) as channel:
        call = channel.unary_unary(LOOKUP)(lookup(name), metadata=bearer(token("alice")))
        code, text, _ = await status_of(call)
    assert (code, "user:alice has no permission Lookup" in text) == (DENIED, True)
    (line,) = port.audited()
    told = ("identity", "method", "resource", "allowed", "reason")
    assert [line[key] for key in told] == ["user:alice", LOOKUP, str(Resource(topic=name)), False, "Lookup"]
    assert line["peer"].startswith("ipv4:127.0.0.1:")


async def test_a_request_that_two_parsers_may_read_differently_is_refused(port: Port) -> None:
    await port.start()
    await port.bind("alice", "viewer", "topic", "/a/b")
    async with connect(port.addr) as channel:
        twice = lookup("/a/b") + lookup("/c/d")
        code, _, _ = await status_of(channel.unary_unary(LOOKUP)(twice, metadata=bearer(token("alice"))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_administration_is_recorded(port: Port) -> None:
    await port.start()
    async with connect(port.addr) as channel:
        ids = (("x-request-id", "ticket-12"), ("traceparent", f"00-{7:032x}-{8:016x}-01"))
        await channel.unary_unary(CREATE)(namespace("shop"), metadata=(*bearer(token(ADMIN)), *ids))
        await status_of(channel.unary_unary(CREATE)(namespace("shop"), metadata=bearer(token("eve"))))
        await status_of(channel.unary_unary(CREATE)(namespace("shop")))
    told = [(line["identity"], line["resource"], line["allowed"]) for line in port.audited()]
    assert told == [
        ("user:root", "namespace shop", True),
        ("user:eve", "namespace shop", False),
        ("", "", False),
    ]
    allowed, denied, _ = port.audited()
    assert (allowed["call"], allowed["trace_id"]) == ("ticket-12", f"{7:032x}")
    assert denied["call"]
    assert "trace_id" not in denied
    assert oct(port.audit_file.stat().st_mode)[-3:] == "600"


async def test_by_choice_administration_stops_while_it_cannot_be_recorded_and_clients_go_on(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_common.security.audit.OPEN_AGAIN_S", 0.0)
    await port.start(audit_file=port.audit_file, audit_required=True)
    async with connect(port.addr) as channel:
        create, look = channel.unary_unary(CREATE), channel.unary_unary(LOOKUP)
        assert await create(namespace("shop"), metadata=bearer(token(ADMIN))) == b"user:root"
        port.audit_file.unlink()
        port.audit_file.mkdir()
        code, text, _ = await status_of(create(namespace("shop"), metadata=bearer(token(ADMIN))))
        assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the audit log cannot be written")
        assert await look(lookup("/a/b"), metadata=bearer(token(ADMIN))) == b"user:root"
        port.audit_file.rmdir()
        assert await create(namespace("shop"), metadata=bearer(token(ADMIN))) == b"user:root"


async def test_methods_for_everybody_need_no_credentials(port: Port) -> None:
    await port.start()
    async with connect(port.addr) as channel:
        assert await channel.unary_unary("/danube.AuthService/Authenticate")(b"") == b"None"
        code, _, _ = await status_of(channel.unary_unary("/no.Such/Method")(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_port_with_a_method_that_has_no_rule_does_not_start(port: Port) -> None:
    with pytest.raises(RuntimeError, match=r"/new\.Service/Method"):
        await port.start(streams={"/new.Service/Method": forgetful})


async def test_a_stream_whose_handler_requires_nothing_sends_nothing(port: Port) -> None:
    await port.start(streams={RECEIVE: forgetful})
    async with connect(port.addr) as channel:
        stream = channel.unary_stream(RECEIVE)(b"", metadata=bearer(token(ADMIN)))
        code, _, _ = await status_of(stream.read())
    assert code is grpc.StatusCode.INTERNAL


async def until_ended(stream: Any) -> grpc.StatusCode:
    async with asyncio.timeout(NOTICE_S):
        return (await status_of(stream.read()))[0]


async def test_a_stream_ends_when_its_binding_is_taken_away_and_others_stay(port: Port) -> None:
    await port.start()
    key = await port.bind("alice", "consumer", "topic", "/a/b")
    await port.bind("bob", "consumer", "topic", "/a/b")
    async with connect(port.addr) as channel:
        streams = [
            channel.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token(n))) for n in ("alice", "bob")
        ]
        assert [await stream.read() for stream in streams] == [b"first", b"first"]
        await port.store.delete(key)
        assert await until_ended(streams[0]) is DENIED
        code, _, _ = await status_of(
            channel.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token("alice"))).read()
        )
        assert code is DENIED
        assert not streams[1].done()
    told = [(line["identity"], line["method"], line["resource"]) for line in port.audited()]
    assert told == [("user:alice", RECEIVE, "topic /a/b"), ("user:alice", RECEIVE, "topic /a/b")]


async def test_a_stream_ends_when_its_token_expires(port: Port) -> None:
    await port.start()
    async with connect(port.addr) as channel:
        stream = channel.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token(ADMIN, ttl_s=600)))
        assert await stream.read() == b"first"
        port.authenticator._now_s = lambda: time.time() + 600
        assert await until_ended(stream) is grpc.StatusCode.UNAVAILABLE


async def test_an_api_key_works_until_it_is_revoked(port: Port) -> None:
    await port.start()
    sent, stored = await port.api_key()
    entry = await port.store.get(stored)
    assert entry is not None
    secret = sent.removeprefix(PREFIX).partition("_")[2]
    assert secret.encode() not in entry.value
    async with connect(port.addr) as channel:
        assert await channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(sent)) == b"user:root"
        stream = channel.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(sent))
        assert await stream.read() == b"first"
        await port.store.delete(stored)
        assert await until_ended(stream) is grpc.StatusCode.UNAVAILABLE
        code, _, _ = await status_of(channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(sent)))
        assert code is UNAUTHENTICATED


async def test_an_api_key_is_refused_with_another_secret_or_once_it_has_expired(port: Port) -> None:
    await port.start()
    sent, _ = await port.api_key()
    expired, _ = await port.api_key(expires_ms=1)
    forged = sent[:-1] + ("A" if sent[-1] != "A" else "B")
    async with connect(port.addr) as channel:
        for credential in (forged, expired, sent.upper(), f"{sent}x"):
            call = channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(credential))
            assert (await status_of(call))[0] is UNAUTHENTICATED


async def test_the_secret_is_replaced_without_a_failed_call(port: Port, tmp_path: Path) -> None:
    await port.start()
    other = "another secret of the tests, longer than 32"
    file = tmp_path / "token.secret"
    old, new = token(ADMIN), token(ADMIN, secret=other)
    async with connect(port.addr) as channel:

        async def call(credential: str) -> bool:
            try:
                await channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(credential))
            except grpc.aio.AioRpcError as error:
                if error.code() is not UNAUTHENTICATED:
                    raise
                return False
            return True

        async def until(credential: str, others: str, *, works: bool) -> None:
            async with asyncio.timeout(NOTICE_S):
                while await call(credential) is not works:
                    assert await call(others)

        assert await call(old)
        file.write_text(f"{other}\n{file.read_text()}")
        await until(new, old, works=True)
        file.write_text(other)
        await until(old, new, works=False)


@pytest.mark.parametrize(("part", "name"), [("subject", "CN=alice"), ("san", "localhost")])
async def test_a_certificate_is_an_identity_of_its_own_kind(
    port: Port, tmp_path: Path, part: str, name: str
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    tls = TlsConfig(cert_file=cert, key_file=key, client_ca_file=authority.file, client_certs="optional")
    await port.start(tls, client_cert_identity=part)
    check = "/danube.HealthCheck/HealthCheck"
    async with secure_channel(port.addr, authority, authority.issue("alice")) as channel:
        assert await channel.unary_unary(check)(b"") == f"certificate:{name}".encode()
        assert await channel.unary_unary(check)(b"", metadata=bearer(token("bob"))) == b"user:bob"
        assert (await status_of(channel.unary_unary(check)(b"", metadata=bearer("junk"))))[
            0
        ] is UNAUTHENTICATED
    async with secure_channel(port.addr, authority) as channel:
        assert (await status_of(channel.unary_unary(check)(b"")))[0] is UNAUTHENTICATED


async def test_a_certificate_is_no_identity_unless_it_is_asked_for(port: Port, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    await port.start(TlsConfig(cert_file=cert, key_file=key, client_ca_file=authority.file))
    async with secure_channel(port.addr, authority, authority.issue(ADMIN)) as channel:
        code, _, _ = await status_of(channel.unary_unary(LOOKUP)(lookup("/a/b")))
    assert code is UNAUTHENTICATED


class Issuer:
    """Publishes keys, or what an attacker would."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.asked = 0
        self.body: bytes | None = None
        self.slow = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        import jwt  # noqa: PLC0415

        self.asked += 1
        if self.slow:
            trickle = web.StreamResponse()
            await trickle.prepare(request)
            while True:
                await trickle.write(b" ")
                await asyncio.sleep(0.05)
        entry = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return web.Response(body=self.body or json.dumps({"keys": [entry]}).encode())

    def token(self) -> str:
        import jwt  # noqa: PLC0415

        return jwt.encode({"sub": ADMIN, "exp": 2e9}, self.key, algorithm="ES256")


@pytest.fixture
async def issuer() -> AsyncIterator[tuple[Issuer, str]]:
    made = Issuer()
    app = web.Application()
    app.router.add_get("/keys", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    await runner.cleanup()


async def test_an_issuers_new_key_is_asked_for_when_it_is_needed_and_not_more(
    port: Port, issuer: tuple[Issuer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, url = issuer
    monkeypatch.setattr("danube_common.security.key_set_url.ASK_AGAIN_S", 0.0)
    await port.start(jwks_url=url)
    async with connect(port.addr) as channel:
        call = channel.unary_unary(LOOKUP)
        assert await call(lookup("/a/b"), metadata=bearer(publisher.token())) == b"user:root"
        publisher.key = ec.generate_private_key(ec.SECP256R1())
        assert await call(lookup("/a/b"), metadata=bearer(publisher.token())) == b"user:root"
        monkeypatch.setattr("danube_common.security.key_set_url.ASK_AGAIN_S", 60.0)
        asked = publisher.asked
        publisher.key = ec.generate_private_key(ec.SECP256R1())
        for _ in range(5):
            assert (await status_of(call(lookup("/a/b"), metadata=bearer(publisher.token()))))[
                0
            ] is UNAUTHENTICATED
        assert publisher.asked == asked


@pytest.mark.parametrize("body", [b"x" * 400_000, b"{}", b"\0", b"[" * 100_000])
async def test_an_issuer_that_answers_nonsense_changes_nothing(
    port: Port, issuer: tuple[Issuer, str], body: bytes
) -> None:
    publisher, url = issuer
    publisher.body = body
    await port.start(jwks_url=url)
    async with connect(port.addr) as channel:
        assert (
            await channel.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(token(ADMIN))) == b"user:root"
        )


async def test_an_issuer_whose_key_set_never_ends_holds_up_nobody_else(
    port: Port,
    issuer: tuple[Issuer, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publisher, url = issuer
    monkeypatch.setattr("danube_common.security.key_set_url.ASK_AGAIN_S", 0.0)
    await port.start(jwks_url=url)
    monkeypatch.setattr("danube_common.security.key_set_url.FETCH_S_MAX", 0.5)
    publisher.slow, asked = True, publisher.asked
    publisher.key = ec.generate_private_key(ec.SECP256R1())
    async with connect(port.addr) as channel:
        call = channel.unary_unary(LOOKUP)
        unknown = [
            asyncio.create_task(status_of(call(lookup("/a/b"), metadata=bearer(publisher.token()))))
            for _ in range(20)
        ]
        waits_s = []
        while not all(task.done() for task in unknown):
            began = time.monotonic()
            assert await call(lookup("/a/b"), metadata=bearer(token(ADMIN))) == b"user:root"
            waits_s.append(time.monotonic() - began)
    with capsys.disabled():
        print(  # noqa: T201 - the figures
            f"others: {len(waits_s)} calls, {max(waits_s) * 1e3:.0f} ms at most"
        )
    assert {task.result()[0] for task in unknown} == {UNAUTHENTICATED}
    assert 0 < publisher.asked - asked < 5  # one for all who wait
    assert max(waits_s) < NOTICE_S


async def test_one_identity_runs_so_many_calls_and_others_go_on(port: Port) -> None:
    await port.start(server={"concurrent_calls_max": 50, "calls_per_identity_max": 3})
    for name in ("al", "bo"):
        await port.bind(name, "consumer", "namespace", "a")
    async with connect(port.addr) as one, connect(port.addr) as two:
        streams = [
            channel.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token("al")))
            for channel in (one, two, one)
        ]
        for stream in streams:
            assert await stream.read() == b"first"
        code, text, _ = await status_of(
            two.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token("al"))).read()
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "user:al" in text
        other = one.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token("bo")))
        assert await other.read() == b"first"
        assert await one.unary_unary(LOOKUP)(lookup("/a/b"), metadata=bearer(token("al"))) == b"user:al"
        streams[0].cancel()
        async with asyncio.timeout(NOTICE_S):
            while True:
                again = one.unary_stream(RECEIVE)(b"/a/b", metadata=bearer(token("al")))
                try:
                    assert await again.read() == b"first"
                    break
                except grpc.aio.AioRpcError:  # the server has not heard of it yet
                    await asyncio.sleep(0.01)
    assert b'bound="calls_per_identity_max"' in port.metrics.render()


async def test_keys_that_cannot_be_used_are_refused_at_the_start(port: Port, tmp_path: Path) -> None:
    file = tmp_path / "weak"
    file.write_text("weak")
    with pytest.raises(InvalidInput, match="at least 32") as refused:
        await port.start(secret_key_file=file)
    assert str(file) in str(refused.value)


async def test_the_end_of_a_stream_is_the_status_that_was_asked_for(serve: Serve) -> None:
    """Without a guard nothing of it is in the way of a call."""

    async def free(call: Call) -> bytes:
        assert call.access is None
        call.require(Permission.PRODUCE, "/a/b")
        raise RpcError(StatusCode.UNAUTHENTICATED, "as the handler says")

    _, addr = await serve(Methods({"/a.B/C": free}))
    async with connect(addr) as channel:
        code, text, _ = await status_of(channel.unary_unary("/a.B/C")(b""))
    assert (code, text) == (UNAUTHENTICATED, "as the handler says")
