"""Topics and changelogs have as many partitions as the app asks for; otherwise its worker stops.

Faust's agents fail when they change a table of another number of partitions than their topic has, and Faust
passes over the messages at which they fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faust.exceptions import ImproperlyConfigured, PartitionsMismatch
from faust.types import AppT

OnError = Callable[[Any, BaseException], Awaitable[None]]


def check_partitions(app: AppT, topic: str, name: str, partitions: int) -> None:
    """Return if a topic that exists has as many partitions as the app asks for.

    Args:
        app: its topics are known.
        topic: that it consumes.
        name: of the topic in Danube.
        partitions: how many it has.

    Raises:
        ImproperlyConfigured: it has another number. ``topic_partitions`` counts only for an app with tables.
    """
    tables: Any = app.tables  # its interface lacks the changelogs
    table = tables._changelogs.get(topic)  # noqa: SLF001
    if table is None and not app.topics.acks_enabled_for(topic):
        return
    if table is not None and (table.use_partitioner or table.is_global):
        return
    asked = {
        channel.partitions
        for channel in app.topics
        if topic in channel.topics and channel.partitions is not None
    }
    if not asked and tables:
        asked = {app.conf.topic_partitions}
    if asked and asked != {partitions}:
        wanted = " and ".join(map(str, sorted(asked)))
        remedy = (
            f"; or, if no agent changes a table at its messages, app.topic({topic!r}, partitions="
            f"{partitions}); or make it anew: danube-admin topics delete {name}, and then"
            f" danube-admin topics create {name} --partitions {max(asked)}"
            if table is None
            else "; or begin anew without the changelog, its snapshots and the subscription of the source"
        )
        raise ImproperlyConfigured(
            f"topic {name} has {partitions} partitions, and the app asks for {wanted}: a table needs as many"
            f" as the topics that change it. Set topic_partitions={partitions} in faust.App{remedy}"
        )


def stop_at_mismatch(app: AppT, fail: Callable[[BaseException], None]) -> None:
    """Let the worker stop when an agent changes a table of another number of partitions than its topic has.

    Args:
        app: its agents are known.
        fail: called with the error; nothing may be committed from then on.
    """
    for agent in app.agents.values():
        agent._on_error = _stopping(app, fail, agent._on_error)  # noqa: SLF001


def _stopping(app: AppT, fail: Callable[[BaseException], None], then: OnError | None) -> OnError:
    async def on_error(agent: Any, error: BaseException) -> None:
        if isinstance(error, PartitionsMismatch):
            fail(error)
            await app.crash(error)
        elif then is not None:
            await then(agent, error)

    return on_error
