from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, cast

import pytest
from faust.types import TP

from danube_client import Client, Message, Start
from danube_client.stream.reading import ReadTopic
from danube_client.testing.memory import MemoryPlatform
from danube_faust.names import Names
from danube_faust.source import Followed
from danube_faust.tables.restoring import check_gaps
from danube_faust.tables.snapshots import ChangelogIncomplete, Snapshots
from danube_faust.topics import Topics

TOPIC = "/default/changelog-part-0"
SOURCE = ReadTopic(TOPIC, None)


class GappyClient:
    """Stands for a client whose reader gives 7 and 8, and then 90, before which one message is missing."""

    def __init__(self) -> None:
        self.starts: list[Start] = []
        self.missing = 0

    def reader(self, topic: str, *, start: Start, follow: bool) -> Self:
        assert (topic, follow) == (TOPIC, True)
        self.starts.append(start)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Message]:
        for position in (7, 8, 90):
            self.missing = int(position == 90)
            yield Message(b"", SOURCE, position)


async def test_a_changelog_is_read_up_to_a_gap_and_then_not_before_it_begins_anew() -> None:
    client, gap = GappyClient(), asyncio.Event()
    followed = Followed(cast("Client", client), TOPIC, lambda: None, gap.set)
    await followed.seek(6)

    followed.resume()
    await gap.wait()
    assert [message.position for message in followed.take(9)] == [7, 8]
    followed.pause()
    followed.resume()
    assert followed.log.end == 9

    gap.clear()
    await followed.seek(0)
    followed.resume()
    await gap.wait()
    await followed.close()
    assert client.starts == [Start.at(7), Start.earliest()]


async def test_a_gap_that_no_snapshot_covers_is_an_error_that_says_what_to_do(
    danube_memory: MemoryPlatform,
) -> None:
    tp = TP("app-sums-changelog", 0)
    async with danube_memory.client() as client:
        topics = Topics(client, Names())
        await topics.create(tp.topic, 1)
        snapshots: Any = Snapshots(client, topics)
        with pytest.raises(ChangelogIncomplete, match=r"position 9 of partition 0 .*Delete the changelog"):
            await check_gaps(snapshots, {tp: 9})
        await snapshots.write(tp, 1, {b"a": b"1"}, covers=20, kept_from=8)
        with pytest.raises(ChangelogIncomplete):
            await check_gaps(snapshots, {tp: 9})
        await snapshots.write(tp, 1, {b"a": b"1"}, covers=30, kept_from=9)
        await check_gaps(snapshots, {tp: 9})
