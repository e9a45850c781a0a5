"""Pytest fixtures for real servers; the root conftest takes them in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from danube_testing.etcd_server import EtcdServer
from danube_testing.nats_server import NatsServer


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
