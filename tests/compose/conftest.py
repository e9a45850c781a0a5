from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import docker
import docker.errors
import pytest
from tests.compose.stack import Stack, run


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The container engine; without one, or without its compose command, the tests are skipped."""
    # A client that reaches nothing leaves its socket to the collector, which would complain at the end.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        client, reason = _reached()
        gc.collect()
    if client is None:
        pytest.skip(f"no container engine answers: {reason}")
    try:
        run(["docker", "compose", "version"])
        run(["docker", "buildx", "version"])
    except (OSError, RuntimeError) as error:
        pytest.skip(f"the engine answers, its command line with compose and buildx does not: {error}")
    yield client
    client.close()


def _reached() -> tuple[docker.DockerClient | None, str]:
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        return None, str(error)
    return client, ""


@pytest.fixture(scope="module")
def built(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, built once for a file of tests."""
    with Stack.built(tmp_path_factory.mktemp("stack"), engine) as stack:
        yield stack


@pytest.fixture
def stack(built: Stack) -> Stack:
    """The stack, up at the scale that the documentation shows."""
    built.up()
    return built
