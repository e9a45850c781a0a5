from __future__ import annotations

from typing import Any

import faust
import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from danube_faust.tables import memory_store


@pytest.fixture
def event(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the partition of the event that an agent works on."""

    def at(partition: int) -> None:
        message = ConsumerMessage(
            "source", partition, 0, 0.0, 0, [], b"k", b"v", None, tp=TP("source", partition)
        )
        monkeypatch.setattr(memory_store, "current_event", lambda: faust.Event(app_, b"k", b"v", {}, message))

    app_ = faust.App("event", broker="danube://")
    return at


async def test_keys_go_with_their_partition_whether_an_agent_or_a_changelog_set_them(event: Any) -> None:
    app = faust.App("memory", broker="danube://")
    assert app.transport
    store: Any = app.Table("sums", default=int).data
    for partition, key in enumerate(("a", "b", "c")):
        event(partition)
        store[key] = partition
    del store["b"]

    store.forget(2)
    assert dict(store) == {"a": 0}
    await store.on_recovery_completed({TP("sums", 1)}, set())
    assert dict(store) == {}


def test_a_table_that_chooses_partitions_itself_keeps_its_keys(event: Any) -> None:
    app = faust.App("memory", broker="danube://")
    assert app.transport
    store: Any = app.Table("sums", default=int, use_partitioner=True).data
    event(1)
    store["a"] = 1

    store.forget(1)
    assert dict(store) == {"a": 1}
