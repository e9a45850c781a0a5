from __future__ import annotations

from typing import Any, cast

import faust
import pytest
from faust.exceptions import ImproperlyConfigured, PartitionsMismatch

from danube_faust.copartitioning import check_partitions, stop_at_mismatch


def app_of(*, tables: bool, partitions: int | None = None) -> tuple[faust.App, str]:
    """Return an app that consumes orders and the changelog of its table, and the changelog's name."""
    app = faust.App("shop", broker="danube://", topic_partitions=8)
    orders = app.topic("orders", partitions=partitions)
    conductor: Any = app.topics
    conductor._topics.add(orders)
    conductor._acking_topics.add("orders")
    table: Any = app.Table("totals", default=int) if tables else None
    if table is not None:
        conductor._topics.add(table.changelog_topic)
    return app, table.changelog_topic_name if tables else ""


@pytest.mark.parametrize(
    ("tables", "asked", "partitions", "fits"),
    [
        (True, None, 8, True),
        (True, None, 1, False),
        (True, 1, 1, True),
        (True, 4, 8, False),
        (False, None, 1, True),
        (False, 4, 1, False),
    ],
)
def test_a_topic_of_another_number_of_partitions_than_asked_for_is_refused(
    *, tables: bool, asked: int | None, partitions: int, fits: bool
) -> None:
    app, _ = app_of(tables=tables, partitions=asked)
    if fits:
        check_partitions(app, "orders", "/default/orders", partitions)
    else:
        with pytest.raises(ImproperlyConfigured) as refused:
            check_partitions(app, "orders", "/default/orders", partitions)
        assert (
            f"danube-admin topics create /default/orders --partitions {asked or 8}" in refused.value.args[0]
        )


def test_a_changelog_of_another_number_of_partitions_is_refused_and_what_is_not_processed_is_not_asked() -> (
    None
):
    app, changelog = app_of(tables=True)
    check_partitions(app, changelog, "/default/totals", 8)
    check_partitions(app, "replies", "/default/replies", 1)
    with pytest.raises(ImproperlyConfigured, match=r"topic_partitions=4 in faust\.App; or begin anew"):
        check_partitions(app, changelog, "/default/totals", 4)


async def test_an_agent_that_changes_a_table_of_another_number_of_partitions_ends_its_worker() -> None:
    app, _ = app_of(tables=True)
    heard: list[BaseException] = []
    passed: list[BaseException] = []

    async def hear(_agent: Any, error: BaseException) -> None:
        passed.append(error)

    @app.agent(app.topic("orders"))
    async def add(stream: Any) -> None:
        async for _ in stream:
            pass

    agent = cast("Any", add)
    agent._on_error = hear
    stop_at_mismatch(app, heard.append)
    mismatch = PartitionsMismatch("1, 8")
    other = ValueError()
    await agent._on_error(agent, other)
    assert (passed, app.crash_reason) == ([other], None)
    await agent._on_error(agent, mismatch)
    assert (heard, passed, app.crash_reason) == ([mismatch], [other], mismatch)
