from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import StreamT
from tests.streams.test_app import until

from danube_client.testing.platform import LocalPlatform

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(180),
    # Of Faust and its libraries.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BINARY = b"\xff\x00\xfe"
SIZE_S, STEP_S = 10, 5


async def test_raw_values_hopping_windows_cron_several_topics_sinks_and_answers_to_questions(
    danube_platform: LocalPlatform, tmp_path: Path
) -> None:
    app = faust.App(
        "kinds",
        broker=danube_platform.url.replace("http", "danube"),
        topic_partitions=2,
        datadir=str(tmp_path),
        web_enabled=False,
        reply_create_topic=True,
        stream_wait_empty=False,  # the last reply to a question is never acknowledged
    )
    raw = app.topic(
        "kinds-raw", key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    doubled = app.topic("kinds-doubled", value_type=int)  # type: ignore[arg-type]
    left, right = (app.topic(f"kinds-{side}", value_type=str) for side in ("left", "right"))
    both = app.topic("kinds-left", "kinds-right", value_type=str)
    times = app.topic("kinds-times", key_type=str, value_type=float)  # type: ignore[arg-type]
    hops = app.Table("hops", default=int)
    windows = hops.hopping(SIZE_S, STEP_S).relative_to(lambda event: event.value)  # type: ignore[attr-defined]
    found: defaultdict[str, list[Any]] = defaultdict(list)

    @app.agent(raw)
    async def raw_bytes(stream: StreamT[bytes]) -> None:
        async for key, value in stream.items():
            found["raw"].append((key, value))

    @app.agent(sink=[doubled])
    async def double(stream: StreamT[int]) -> Any:
        async for number in stream:
            yield 2 * number

    @app.agent(doubled)
    async def sunk(stream: StreamT[int]) -> None:
        async for number in stream:
            found["doubled"].append(number)

    @app.agent(times)
    async def count(stream: StreamT[float]) -> None:
        async for key, _ in stream.items():  # noqa: PERF102 - a stream, which has no keys()
            windows[key] += 1

    @app.agent(both)
    async def merge(stream: StreamT[str]) -> None:
        async for value in stream:
            found["merged"].append(value)

    @app.crontab("* * * * * *")
    async def each_second() -> None:
        found["cron"].append(None)

    async with app:
        await raw.send(key=BINARY, value=BINARY)
        await left.send(value="left")
        await right.send(value="right")
        for second in (101.0, 104.0, 106.0):
            await times.send(key="ann", value=second)
        assert await double.ask(21) == 42
        await until(
            lambda: found["raw"] and found["doubled"] and len(set(found["merged"])) == 2 and found["cron"]
        )
        await until(lambda: len(hops) == 3)

        assert found["raw"] == [(BINARY, BINARY)]
        assert found["doubled"] == [42]
        assert set(found["merged"]) == {"left", "right"}
        assert {start: number for (_, (start, _)), number in hops.items()} == {95.0: 2, 100.0: 3, 105.0: 1}
