"""The official Rust client against a platform; by `make official-test` only, as it is compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from danube_harness.platforms.standalone import Platform

pytestmark = [pytest.mark.official, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
COUNT = 1000
FLOW_S_MAX = 120
BUILD_S_MAX = 1500


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Platform.run(tmp_path_factory.mktemp("platform")) as running:
        yield f"http://{running.gateway_addr}"


@pytest.fixture
def topic() -> str:
    return f"/default/official_{uuid4().hex[:12]}"


def unavailable(what: str, reason: str) -> None:
    """Skip, and say so at the end of the run as well."""
    warnings.warn(pytest.PytestWarning(f"{what} was not tried: {reason}"), stacklevel=2)
    pytest.skip(f"{what} was not tried: {reason}")


def succeeds(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=FLOW_S_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"received {COUNT} in order" in done.stdout


@pytest.mark.filterwarnings("default::pytest.PytestWarning")
def test_the_rust_client_loses_nothing_and_keeps_the_order(url: str, topic: str, tmp_path: Path) -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        unavailable("danube-client 0.15.1 (Rust)", "there is no cargo here")
        return
    protoc = tmp_path / "protoc"  # the client's build wants one
    protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    target = tmp_path / "target"
    build: list[str | Path] = [
        cargo,
        "build",
        "--manifest-path",
        HERE / "rust" / "Cargo.toml",
        "--target-dir",
        target,
    ]
    environment = os.environ | {"PROTOC": str(protoc)}
    built = subprocess.run(
        build, env=environment, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False
    )
    if built.returncode != 0 and "failed to download" in built.stderr:
        unavailable("danube-client 0.15.1 (Rust)", built.stderr.strip()[-300:])
    assert built.returncode == 0, built.stderr
    succeeds(target / "debug" / "official-rust", url, topic, str(COUNT))
