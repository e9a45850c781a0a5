from __future__ import annotations

from typing import Any

import faust
import pytest
from faust.app.router import Router as FaustRouter
from faust.types import TP
from yarl import URL

from danube_client.stream.routing import Router
from danube_faust.tables.router import route_by_messages

PARTITIONS = 4
KEYS = [f"k{number}" for number in range(50)]


def url_of(key: str) -> URL:
    """Return the worker at the partition where all Danube clients send the messages of a key."""
    return URL(f"http://worker-{Router().partition(key, PARTITIONS)}")


def app_of(**options: Any) -> faust.App:
    """Return an app whose table ``totals`` has four partitions, each with another worker."""
    app = faust.App("shop", broker="danube://")
    app.Table("totals", partitions=PARTITIONS, **options)
    app.finalize()
    producer: Any = app.producer
    assignor: Any = app.assignor
    producer.key_partition = lambda topic, key: TP(topic, producer.partition_of(key, PARTITIONS))
    assignor.changelog_distribution = {
        f"http://worker-{number}": {"shop-totals-changelog": [number]} for number in range(PARTITIONS)
    }
    return app


@pytest.mark.parametrize("key_type", [None, str, bytes])
def test_a_request_goes_to_the_worker_that_has_the_messages_of_the_key(key_type: Any) -> None:
    app = app_of(key_type=key_type)
    route_by_messages(app)

    for key in KEYS:
        asked: Any = key.encode() if key_type is bytes else key
        assert app.router.key_store("totals", asked) == url_of(key)


def test_a_table_that_chooses_partitions_by_its_own_keys_is_asked_by_these() -> None:
    app = app_of(use_partitioner=True)
    route_by_messages(app)

    for key in KEYS:
        assert app.router.key_store("totals", key) == url_of(f'"{key}"')


def test_an_app_s_own_router_is_kept() -> None:
    class Own(FaustRouter):
        pass

    app = app_of()
    app.router = Own(app)
    route_by_messages(app)

    assert type(app.router) is Own
