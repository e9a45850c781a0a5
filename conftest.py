"""What all tests share: server fixtures, Hypothesis settings, and the `server` marker."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from danube_harness.fixtures import etcd_server, nats_server, s3_server, shared_moto, shared_seaweedfs

__all__ = ["etcd_server", "nats_server", "s3_server", "shared_moto", "shared_seaweedfs"]

SERVER_FIXTURES: Final = frozenset(
    {"etcd_server", "nats_server", "platform", "s3_server", "serve", "shared_moto", "shared_seaweedfs"}
)
"""A test that asks for one of these starts a real server."""

LONG_TESTS: Final = tuple(
    Path(__file__).parent / one
    for one in (
        "tests/chaos",
        "tests/docs/test_examples.py",
        "tests/docs/test_backup.py",
        "tests/integration/test_handover.py",
        "tests/integration/test_retention.py",
        "tests/integration/test_admin_service.py",
        "tests/integration/test_clients.py",
        "tests/acceptance",
    )
)
"""They begin first, in this order: one that begins last would keep one worker busy and the others idle."""

FAUST_TESTS: Final = tuple(Path(__file__).parent / one for one in ("libs/faust/tests", "tests/streams"))


def _has_faust() -> bool:
    try:
        version("faust-streaming")
    except PackageNotFoundError:
        return False
    return True


HAS_FAUST: Final = _has_faust()
"""What is installed without `make setup-test` may lack it."""

# The duration of an example depends on the load of the machine: pytest's timeout is enough.
settings.register_profile(
    "danube", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
# What `make unit` takes: property tests are most of its time.
settings.register_profile("quick", settings.get_profile("danube"), max_examples=10)
settings.load_profile("danube")


def pytest_itemcollected(item: pytest.Item) -> None:
    # Before `-m` chooses by markers.
    if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
        item.add_marker("server")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_when)


def _when(item: pytest.Item) -> int:
    """The rank among the long tests; all others come behind them, in the order that they have."""
    ranks = (at for at, one in enumerate(LONG_TESTS) if item.path.is_relative_to(one))
    return next(ranks, len(LONG_TESTS))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if not HAS_FAUST and collection_path.parent in FAUST_TESTS else None


def pytest_report_header() -> str | None:
    if HAS_FAUST:
        return None
    return "tests of danube_faust are SKIPPED: Faust is not installed; `make setup-test` installs it"
