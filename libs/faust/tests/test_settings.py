from __future__ import annotations

import asyncio
from typing import Any

import faust
import pytest
from faust.exceptions import ImproperlyConfigured

from danube_faust.settings import of_transport
from danube_faust.transport import Transport


def test_an_app_s_broker_is_found_by_its_scheme() -> None:
    app = faust.App("orders", broker="danube://one:7000;danube://two")

    assert isinstance(app.transport, Transport)
    assert of_transport(app.transport).addresses == ("http://one:7000", "http://two:6650")


def test_the_namespace_is_an_argument_of_the_app_or_an_attribute_of_its_configuration() -> None:
    given = faust.App("orders", broker="danube://", danube_namespace="shop")
    changed = faust.App("orders", broker="danube://")
    changed.conf.danube_namespace = "till"

    assert of_transport(given.transport).names.namespace == "shop"
    assert of_transport(changed.transport).names.namespace == "till"


def test_exactly_once_is_refused_at_the_start() -> None:
    app = faust.App("orders", broker="danube://", processing_guarantee="exactly_once")

    with pytest.raises(ImproperlyConfigured, match="not offered over Danube"):
        _ = app.transport


async def test_a_recovery_outlives_a_platform_that_does_not_answer_for_longer_than_faust_would_wait() -> None:
    app = faust.App("orders", broker="danube://", broker_request_timeout=0.01)
    assert isinstance(app.transport, Transport)

    tables: Any = app.tables
    await tables.recovery._wait(asyncio.sleep(0.1), timeout=app.conf.broker_request_timeout)
