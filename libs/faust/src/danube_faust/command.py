"""``faust -A APP compact``: writes snapshots of an app's tables, so that recovery has a bound."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import Any

from faust.cli.base import AppCommand, option
from faust.types import TP

from danube_faust.settings import of_transport
from danube_faust.tables.compaction import KEEP_S, compact
from danube_faust.topics import Topics


class Compact(AppCommand):
    """Write snapshots of the tables' changelogs, and let what older ones cover be deleted.

    Workers may run meanwhile. A partition is passed over that changed less often, since its last snapshot,
    than it has keys.
    """

    options = [  # noqa: RUF012 - Faust's
        option(
            "--keep",
            type=float,
            default=KEEP_S,
            show_default=True,
            help="Seconds for which workers may read from what an older snapshot covers.",
        )
    ]

    async def run(self, *_args: Any, keep: float, **_options: Any) -> None:
        """Execute the command."""
        settings = of_transport(self.app.transport)
        async with await settings.client() as client:
            topics = Topics(client, settings.names)
            for table in self.app.tables.values():
                changelog = table.changelog_topic.get_topic_name()
                if not await topics.find(changelog):
                    self.say(f"{changelog}: there is none yet")
                    continue
                for number in range(topics.partitions(changelog) or 0):
                    done = await compact(
                        client,
                        topics,
                        TP(changelog, number),
                        keep_s=keep,
                        is_wanted=partial(is_current, table, now_s=time.time()),
                    )
                    self.say(
                        f"{changelog} {number}: {done.keys} keys, {done.changes} changes,"
                        f" {'a new snapshot' if done.written else 'no snapshot needed'},"
                        f" kept from position {done.kept_from}"
                    )
                    await asyncio.sleep(0)


def is_current(table: Any, key: bytes, *, now_s: float) -> bool:
    """Return whether a key is not one of a window that has expired."""
    if table.window is None or not table.window.expires:
        return True
    try:
        _, (_, end_s) = json.loads(key)
    except (ValueError, TypeError):
        return True  # written by another serializer
    return not table.window.stale(end_s, now_s)
