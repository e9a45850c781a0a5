from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from danube_faust.tables.restoring import restore

Changes = Iterable[tuple[int, bytes, bytes | None]]


def table_of(app: faust.App, **options: Any) -> Any:
    return app.Table("totals", default=int, key_type=str, value_type=int, partitions=1, **options)


def messages(tp: TP, changes: Changes) -> list[ConsumerMessage]:
    return [
        ConsumerMessage(tp.topic, tp.partition, position, 0.0, 0, [], key, value, None, tp=tp)
        for position, key, value in changes
    ]


async def test_a_changelog_is_put_into_its_table_once_and_the_recovery_is_told() -> None:
    app = faust.App("restoring", broker="danube://")
    heard: list[Any] = []

    async def hear(event: Any) -> None:
        heard.append(event.value)

    table = table_of(app, on_changelog_event=hear)
    tp = TP(table.changelog_topic.get_topic_name(), 0)
    tables: Any = app.tables
    recovery = tables.recovery
    recovery.add_active(table, tp)

    await restore(app, tp, messages(tp, [(7, b'"ann"', b"1"), (8, b'"bob"', b"2"), (90, b'"ann"', b"3")]))
    await restore(app, tp, messages(tp, [(90, b'"ann"', b"9"), (91, b'"bob"', None)]))
    await restore(app, tp, messages(tp, [(91, b'"bob"', b"9")]))

    assert dict(table.data) == {"ann": 3}
    assert recovery.active_offsets[tp] == 91
    assert heard == [1, 2, 3, None]
    assert tables.changelog_queue.qsize() == 2


async def test_a_changelog_that_was_revoked_changes_nothing() -> None:
    app = faust.App("revoked", broker="danube://")
    table = table_of(app)
    tp = TP(table.changelog_topic.get_topic_name(), 0)
    tables: Any = app.tables
    recovery = tables.recovery
    recovery.add_standby(table, tp)
    recovery.revoke(tp)

    await restore(app, tp, messages(tp, [(7, b'"ann"', b"1")]))

    assert not dict(table.data)


async def test_a_table_on_disk_goes_on_behind_what_it_has(tmp_path: Path) -> None:
    pytest.importorskip(
        "rocksdict", reason="SKIPPED: the RocksDB store needs rocksdict, of requirements/faust.txt"
    )

    def opened() -> tuple[faust.App, Any, TP]:
        app = faust.App("disk", broker="danube://", store="rocksdb://", datadir=str(tmp_path))
        table = table_of(app)
        tp = TP(table.changelog_topic.get_topic_name(), 0)
        tables: Any = app.tables
        tables.recovery.add_active(table, tp)
        return app, table, tp

    app, table, tp = opened()
    assert table.persisted_offset(tp) is None
    await restore(app, tp, messages(tp, [(7, b'"ann"', b"1"), (8, b'"bob"', b"2")]))
    await table.data.stop()
    del app, table

    app, table, tp = opened()
    assert table.persisted_offset(tp) == 8
    await restore(app, tp, messages(tp, [(7, b'"ann"', b"9"), (8, b'"bob"', b"9"), (9, b'"ann"', b"3")]))
    assert {table.data._get(key) for key in (b'"ann"', b'"bob"')} == {b"3", b"2"}
