"""A platform that asks for certificates: the tools and the client library reach it with them only."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from danube_client import Tls, connect
from danube_harness.platforms.standalone import Platform
from danube_harness.rpc.certificates import Authority

UNREACHABLE = 3
TOPIC = "/default/secret"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def platform(tmp_path: Path, authority: Authority) -> Iterator[Platform]:
    cert, key = authority.issue("server")
    files = {"CERT_FILE": cert, "KEY_FILE": key, "CLIENT_CA_FILE": authority.file}
    environment = {
        f"DANUBE_{service}_TLS_{name}": str(file)
        for service in ("GATEWAY", "ADMIN")
        for name, file in files.items()
    }
    # The supervisor asks for readiness over TLS, too.
    environment |= {
        "DANUBE_GATEWAY_HTTP_TLS_CERT_FILE": str(cert),
        "DANUBE_GATEWAY_HTTP_TLS_KEY_FILE": str(key),
    }
    with Platform.run(tmp_path / "platform", environment=environment) as running:
        yield running


def run(tool: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / tool
    environment = os.environ | variables
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=50, check=False
    )


async def test_tools_and_library_reach_it_with_certificates_and_not_without(
    platform: Platform, authority: Authority
) -> None:
    (http_url,) = platform.http_urls("gateway")
    assert http_url.startswith("https://")
    gateway, admin = f"https://{platform.gateway_addr}", f"https://{platform.admin_addr}"
    cert, key = (str(file) for file in authority.issue("alice"))
    ca = str(authority.file)
    flags = ("--ca", ca, "--cert", cert, "--key", key)
    variables = {"DANUBE_CA": ca, "DANUBE_CERT": cert, "DANUBE_KEY": key, "DANUBE_SERVER_NAME": "localhost"}
    of_today = {
        "DANUBE_ADMIN_ENDPOINT": f"http://{platform.admin_addr}",
        "DANUBE_ADMIN_TLS": "true",
        "DANUBE_ADMIN_CA": ca,
        "DANUBE_ADMIN_CERT": cert,
        "DANUBE_ADMIN_KEY": key,
        "DANUBE_ADMIN_DOMAIN": "localhost",
    }

    async with connect(gateway, tls=Tls(ca, cert, key)) as client:
        async with client.producer(TOPIC) as producer:
            await producer.send("from the library")
        async with client.consumer(TOPIC, "readers") as consumer:
            async for message in consumer:
                assert message.text == "from the library"
                await message.ack()
                break

    sent, listed, by_variables, letters, plain, nameless = await asyncio.gather(
        *(
            asyncio.to_thread(run, *arguments, **more)
            for arguments, more in (
                (("danube-cli", *flags, "produce", "-s", gateway, "-t", TOPIC, "-m", "x"), {}),
                (("danube-admin", *flags, "topics", "list", "default", "--endpoint", admin), {}),
                (("danube-admin", "brokers", "list"), of_today),
                (
                    ("danube-admin", "dead-letters", "browse", TOPIC, "--endpoint", admin),
                    variables,
                ),
                (("danube-cli", "produce", "-s", f"http://{platform.gateway_addr}", "-m", "x"), {}),
                (("danube-admin", "--ca", ca, "brokers", "list", "--endpoint", admin), {}),
            )
        )
    )
    assert (sent.returncode, sent.stderr) == (0, "")
    assert TOPIC in listed.stdout
    assert (by_variables.returncode, by_variables.stderr) == (0, "")
    assert f"https://{platform.gateway_addr}" in by_variables.stdout
    assert (letters.returncode, letters.stderr) == (0, "")  # this one goes to a gateway as well
    assert plain.returncode == UNREACHABLE
    assert nameless.returncode == UNREACHABLE
    for refused in (plain, nameless):
        assert refused.stderr.startswith("Error: ")
        assert "Traceback" not in refused.stderr


def test_plaintext_is_not_used_where_tls_is_asked_for(authority: Authority) -> None:
    for tool, arguments in (
        ("danube-cli", ("produce", "-s", "http://127.0.0.1:1", "-m", "x")),
        ("danube-admin", ("brokers", "list", "--endpoint", "http://127.0.0.1:1")),
    ):
        done = run(tool, "--ca", str(authority.file), *arguments)
        assert done.returncode == 2
        assert "https://host:port" in done.stderr
