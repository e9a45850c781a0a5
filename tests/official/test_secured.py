"""Tokens over TLS: the official Python client, and secrets that are replaced under load."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.official.rust_build import BUILD_S_MAX
from tests.official.scenario import BY_PYTHON, Scenario

from danube_client import Tls, connect
from danube_harness.platforms.standalone import Platform
from danube_harness.rpc.certificates import Authority, secure_channel
from danube_harness.rpc.credentials import ADMIN, SECRET, bearer, secret_file, token
from danube_proto import danube_admin_pb2 as admin_pb
from danube_proto import danube_api_pb2 as v0_2

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

COUNT = 20
FLOW_S_MAX = 120
NEW_SECRET = "another secret of the tests, longer than 32 bytes"
REPLACED_S_MAX = 60
SEEN_S = 2.5
"""A change of a file is seen within 2 s, which has no event."""
TOPIC, LOAD_TOPIC, RUST_TOPIC = "/default/mine", "/default/loads", "/default/rusts"
OTHERS = "/default/others"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the secrets of tokens."""
    return secret_file(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, secrets: Path
) -> Iterator[Platform]:
    pytest.importorskip("danube", reason="danube-client is not installed: the Python client was not tried")
    folder = tmp_path_factory.mktemp("secured")
    cert, key = authority.issue("server")
    settings = {
        "AUTH_ENABLED": "true",
        "AUTH_SECRET_KEY_FILE": str(secrets),
        "AUTH_SUPER_ADMINS": ADMIN,
    }
    tls = {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
    environment = {f"DANUBE_ADMIN_{name}": value for name, value in settings.items()}
    environment |= {f"DANUBE_GATEWAY_{name}": value for name, value in (settings | tls).items()}
    with Platform.run(folder, environment=environment) as running:
        with grpc.insecure_channel(running.admin_addr) as channel:
            create = channel.unary_unary(
                "/danube_admin.SecurityAdmin/CreateBinding",
                request_serializer=admin_pb.CreateBindingRequest.SerializeToString,
                response_deserializer=admin_pb.SecurityResponse.FromString,
            )
            for name, topic in (("python", TOPIC), ("loads", LOAD_TOPIC), ("rust", RUST_TOPIC)):
                binding = admin_pb.BindingDefinition(
                    id=name,
                    principal_type="user",
                    principal_name=name,
                    role_names=["producer", "consumer"],
                    scope="topic",
                    resource_name=topic,
                )
                request = admin_pb.CreateBindingRequest(binding=binding)
                create(request, metadata=bearer(token(ADMIN)), timeout=30)
        yield running


def run(platform: Platform, authority: Authority, topic: str, credential: str) -> tuple[int, str]:
    secured = {"DANUBE_TOKEN": credential, "DANUBE_CA": str(authority.file)}
    url = f"https://{platform.gateway_addr}"
    return Scenario(BY_PYTHON, url, "reliable", topic, COUNT, **secured).ends(FLOW_S_MAX)


def test_the_python_client_works_with_its_token_over_tls(platform: Platform, authority: Authority) -> None:
    code, said = run(platform, authority, TOPIC, token("python"))
    assert (code, "reliable: done" in said) == (0, True), said


@pytest.mark.parametrize(
    ("topic", "wrong", "code"),
    [
        (OTHERS, {}, "PERMISSION_DENIED"),
        (TOPIC, {"ttl_s": -60}, "UNAUTHENTICATED"),
        (TOPIC, {"secret": "x" * 40}, "UNAUTHENTICATED"),
    ],
    ids=["another topic", "expired", "another secret"],
)
def test_the_python_client_is_told_what_it_may_not(
    platform: Platform, authority: Authority, topic: str, wrong: dict[str, Any], code: str
) -> None:
    ended, said = run(platform, authority, topic, token("python", **wrong))
    assert (ended != 0, code in said) == (True, True), said


@pytest.mark.official
@pytest.mark.timeout(BUILD_S_MAX)
@pytest.mark.filterwarnings("default::pytest.PytestWarning")
@pytest.mark.parametrize(
    ("topic", "wrong", "said"),
    [
        (RUST_TOPIC, {}, "reliable: done"),
        (OTHERS, {}, "no permission Produce"),
        (RUST_TOPIC, {"ttl_s": -60}, "valid authentication credentials"),
        (RUST_TOPIC, {"secret": "x" * 40}, "valid authentication credentials"),
    ],
    ids=["allowed", "another topic", "expired", "another secret"],
)
def test_the_rust_client_may_with_its_token_over_tls_what_it_is_allowed(
    platform: Platform,
    authority: Authority,
    rust_programs: Path,
    topic: str,
    wrong: dict[str, Any],
    said: str,
) -> None:
    secured = {"DANUBE_TOKEN": token("rust", **wrong), "DANUBE_CA": str(authority.file)}
    program = (rust_programs / "current",)
    url = f"https://{platform.gateway_addr}"
    code, told = Scenario(program, url, "reliable", topic, COUNT, **secured).ends(FLOW_S_MAX)
    assert (code == 0, said in told) == (not wrong and topic == RUST_TOPIC, True), told


async def test_certificate_and_secret_are_replaced_under_load_without_a_failed_call(
    platform: Platform, authority: Authority, secrets: Path
) -> None:
    credential = [token("loads")]
    failed: list[BaseException] = []
    calls = 0

    async def calling(send: Callable[[], Awaitable[object]]) -> None:
        nonlocal calls
        while True:
            try:
                await send()
                calls += 1
            except Exception as error:  # noqa: BLE001 - any is a failed call
                failed.append(error)
            await asyncio.sleep(0.01)

    def certificate() -> str:
        host, port = platform.gateway_addr.split(":")
        return ssl.get_server_certificate((host, int(port)), timeout=10)

    asked = v0_2.TopicLookupRequest(topic=LOAD_TOPIC).SerializeToString()
    tls = Tls(str(authority.file), token=lambda: credential[0])
    async with (
        connect(f"https://{platform.gateway_addr}", tls=tls) as client,
        client.producer(LOAD_TOPIC) as producer,
        secure_channel(platform.gateway_addr, authority) as channel,
    ):
        lookup = channel.unary_unary("/danube.Discovery/TopicLookup")
        loads = [
            asyncio.create_task(calling(lambda: producer.send("x"))),
            asyncio.create_task(calling(lambda: lookup(asked, metadata=bearer(credential[0]), timeout=30))),
        ]
        before = await asyncio.to_thread(certificate)
        authority.issue("server")
        async with asyncio.timeout(REPLACED_S_MAX):
            while await asyncio.to_thread(certificate) == before:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.1)
        # The new secret above the old one, then tokens of the new one, then the new one alone.
        for lines in (f"{NEW_SECRET}\n{SECRET}\n", f"{NEW_SECRET}\n"):
            secrets.write_text(lines)  # noqa: ASYNC240 - a line
            await asyncio.sleep(SEEN_S)
            credential[0] = token("loads", secret=NEW_SECRET)
            seen = calls
            async with asyncio.timeout(REPLACED_S_MAX):
                while calls < seen + 50 and not failed:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        for load in loads:
            load.cancel()
        await asyncio.wait(loads)
        assert not failed, (len(failed), calls, failed[0])
        with pytest.raises(grpc.aio.AioRpcError, match="no key that is known"):
            await lookup(asked, metadata=bearer(token("loads")), timeout=30)
    secrets.write_text(SECRET)  # noqa: ASYNC240
    await asyncio.sleep(SEEN_S)
