"""An app that notes when it works on which event, in a file of its worker; for tests that kill workers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import faust
from faust.types import StreamT
from faust.types.web import Request, Response, View
from tests.streams.history import PARTITIONS, TOPIC

WORK_S = 0.004
"""How long an event takes, so that two workers at one partition would be seen."""

_log = os.open(
    Path(os.environ["FAUST_WORKER"] + ".history").absolute(), os.O_WRONLY | os.O_CREAT | os.O_APPEND
)


def note(what: str, *facts: Any) -> None:
    """Append a line that is whole or absent if this process is killed."""
    os.write(_log, json.dumps([what, os.getpid(), time.monotonic(), *facts]).encode() + b"\n")


class Counted(faust.Record):
    """How many numbers of a key there were, and the last one, by which a repeated one is known."""

    count: int = 0
    last: int = -1


app = faust.App(
    "history",
    broker=os.environ["DANUBE_BROKER"],
    topic_partitions=PARTITIONS,
    broker_commit_interval=0.3,
    table_standby_replicas=0,
)
numbers = app.topic(TOPIC, key_type=str, value_type=int)  # type: ignore[arg-type]
counts = app.Table("counts", default=Counted, key_type=str, value_type=Counted)


@app.agent(numbers)
async def count(stream: StreamT[int]) -> None:
    """Count the numbers of each key."""
    async for event in stream.events():
        where = event.message.partition, event.message.offset
        note("begin", *where)
        known = counts[event.key]
        if event.value > known.last:
            counts[event.key] = Counted(known.count + 1, event.value)
        await asyncio.sleep(WORK_S)
        note("end", *where)


@app.on_partitions_assigned.connect
async def on_assigned(*args: Any, **_: Any) -> None:
    """Note what this worker has from now on."""
    note("assigned", sorted(tp.partition for tp in args[1] if tp.topic == TOPIC))


@app.on_partitions_revoked.connect
async def on_revoked(*_args: Any, **_: Any) -> None:
    """Note that this worker has nothing from now on."""
    note("revoked")


@app.page("/counts/{key}/")
@app.table_route(table=counts, match_info="key")
async def count_of(view: View, _request: Request, key: str) -> Response:
    """Answer with the count of a key, from the worker that has it."""
    return view.json({"count": counts[key].count})
