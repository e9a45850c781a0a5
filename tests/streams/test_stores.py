from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import faust
import pytest
from tests.streams.test_app import until

from danube_client import connect
from danube_client.testing.platform import LocalPlatform
from danube_faust.tables.restoring import restore

pytestmark = [
    pytest.mark.server,
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
    # Of Faust and its libraries.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("rocksdict") is None,
        reason="SKIPPED: the RocksDB store needs rocksdict, of requirements/faust.txt",
    ),
]
KEYS = 40
PARTITIONS = 2


def worker(name: str, platform: LocalPlatform, directory: Path) -> tuple[faust.App, Any]:
    """Return a worker of one app with a directory of its own, and its table."""
    app = faust.App(
        "stores",
        broker=platform.url.replace("http", "danube"),
        topic_partitions=PARTITIONS,
        store="rocksdb://",
        datadir=str(directory / name),
        web_enabled=False,
        broker_commit_interval=0.2,
    )
    table = app.Table("sums", default=int)

    @app.agent(app.topic("stores-orders", key_type=str, value_type=int))  # type: ignore[arg-type]
    async def add(stream: Any) -> None:
        async for key, value in stream.items():
            table[key] += value

    return app, table


def contents(table: Any) -> dict[str, int]:
    """Return what a worker has of the table on its disk, partitions that it only follows included."""
    return {
        table.data._decode_key(key): table.data._decode_value(value)
        for db in table.data._dbs.values()
        for key, value in db.items()
        if key != table.data.offset_key
    }


async def test_a_standby_s_rocksdb_takes_over_without_reading_the_changelog_again(
    danube_platform: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[tuple[Any, int]] = []

    async def counted(app: Any, tp: Any, messages: Sequence[Any]) -> None:
        restored.append((app, len(messages)))
        await restore(app, tp, messages)

    monkeypatch.setattr("danube_faust.consumer.restore", counted)
    async with (
        connect(danube_platform.url, streaming=True) as client,
        client.producer("/default/stores-orders", partitions=PARTITIONS) as producer,
    ):
        for turn in (1, 2):
            for number in range(KEYS):
                await producer.post(b"%d" % turn, key=f"k{number}")
        await producer.flush()
    expected = {f"k{number}": 3 for number in range(KEYS)}

    async with AsyncExitStack() as stack:
        first, of_first = worker("first", danube_platform, tmp_path)
        async with first:
            await until(lambda: contents(of_first) == expected)
            second, of_second = worker("second", danube_platform, tmp_path)
            await stack.enter_async_context(second)
            # Each has half of the partitions, and follows the other half.
            await until(lambda: second.assignor.assigned_actives() and first.assignor.assigned_actives())
            await until(lambda: contents(of_second) == expected)
            read = sum(count for app, count in restored if app is second)
        await until(
            lambda: len({tp for tp in second.consumer.assignment() if tp.topic == "stores-orders"}) == 2
        )
        await until(lambda: second.tables.actives_ready)

        assert contents(of_second) == expected
        assert sum(count for app, count in restored if app is second) - read <= 2 * PARTITIONS
