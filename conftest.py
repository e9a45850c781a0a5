"""What all tests share: server fixtures, Hypothesis settings, and the `server` marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from danube_harness.fixtures import etcd_server, nats_server, s3_server

__all__ = ["etcd_server", "nats_server", "s3_server"]

SERVER_FIXTURES: Final = frozenset({"etcd_server", "nats_server", "platform", "s3_server"})
"""A test that asks for one of these starts a real server."""

# The duration of an example depends on the load of the machine: pytest's timeout is enough.
settings.register_profile(
    "danube", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
# What `make unit` takes: property tests are most of its time.
settings.register_profile("quick", settings.get_profile("danube"), max_examples=15)
settings.load_profile("danube")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")
