"""The official Python client with a token over TLS; run by `make official-test` only."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from danube_harness.platforms.standalone import Platform
from danube_harness.rpc.certificates import Authority
from danube_harness.rpc.credentials import ADMIN, bearer, secret_file, token
from danube_proto import danube_admin_pb2 as admin_pb

pytestmark = [pytest.mark.official, pytest.mark.timeout(600)]

PYTHON_CLIENT = "danube-client==0.5.0"
FLOW = Path(__file__).parent / "python" / "secured_flow.py"
COUNT = 200
FLOW_S_MAX = 120
INSTALL_S_MAX = 300
TOPIC, OTHERS = "/default/mine", "/default/others"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_S_MAX)
    made = folder / "bin" / "python"
    pip: list[str | Path] = [made, "-m", "pip", "install", "--quiet", PYTHON_CLIENT]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
    if installed.returncode != 0:
        reason = f"{PYTHON_CLIENT} was not tried: {installed.stderr.strip()[-300:]}"
        warnings.warn(pytest.PytestWarning(reason), stacklevel=1)
        pytest.skip(reason)
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("secured")
    cert, key = authority.issue("server")
    settings = {
        "AUTH_ENABLED": "true",
        "AUTH_SECRET_KEY_FILE": str(secret_file(folder)),
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
            binding = admin_pb.BindingDefinition(
                id="python",
                principal_type="user",
                principal_name="python",
                role_names=["producer", "consumer"],
                scope="topic",
                resource_name=TOPIC,
            )
            create(admin_pb.CreateBindingRequest(binding=binding), metadata=bearer(token(ADMIN)), timeout=30)
        yield running


def run(
    python: Path, platform: Platform, authority: Authority, topic: str, credential: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, FLOW, f"https://{platform.gateway_addr}", topic, str(COUNT), authority.file],
        env=os.environ | {"DANUBE_TOKEN": credential},
        capture_output=True,
        text=True,
        timeout=FLOW_S_MAX,
        check=False,
    )


@pytest.mark.filterwarnings("default::pytest.PytestWarning")
def test_the_python_client_works_with_its_token_over_tls(
    python: Path, platform: Platform, authority: Authority
) -> None:
    done = run(python, platform, authority, TOPIC, token("python"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reliable: done" in done.stdout


@pytest.mark.filterwarnings("default::pytest.PytestWarning")
@pytest.mark.parametrize(
    ("topic", "credential", "code"),
    [
        (OTHERS, token("python"), "PERMISSION_DENIED"),
        (TOPIC, token("python", ttl_s=-60), "UNAUTHENTICATED"),
        (TOPIC, token("python", secret="x" * 40), "UNAUTHENTICATED"),
    ],
    ids=["another topic", "expired", "another secret"],
)
def test_the_python_client_is_told_what_it_may_not(
    python: Path, platform: Platform, authority: Authority, topic: str, credential: str, code: str
) -> None:
    done = run(python, platform, authority, topic, credential)
    assert done.returncode != 0
    assert code in done.stderr
