"""Pytest fixtures for real servers; the root conftest takes them in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.s3_server import S3Kind, S3Server


@pytest_asyncio.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of the test's own: it is up in 0.1 s, and tests may kill it."""
    directory = tmp_path / "nats"
    directory.mkdir()
    async with NatsServer.run(directory) as server:
        yield server


@pytest_asyncio.fixture
async def etcd_server(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    """A server of one member, the test's own: it is up within a second, and tests may kill it."""
    directory = tmp_path / "etcd"
    directory.mkdir()
    async with EtcdServer.run(directory) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Server]:
    """A server for all tests of a file, which must not hurt it, and keep to prefixes of their own."""
    async with S3Server.run(S3Kind.SEAWEED, tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_moto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Server]:
    """Another of the other kind."""
    async with S3Server.run(S3Kind.MOTO, tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest_asyncio.fixture(params=list(S3Kind))
async def s3_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Server]:
    """A server of each kind, up within a second or two, whose credentials clients find in the environment."""
    directory = tmp_path / "s3"
    directory.mkdir()
    async with S3Server.run(request.param, directory) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
