from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from danube_client import MessagesLost
from danube_client.testing.memory import MemoryPlatform
from danube_faust.source import Followed


@pytest.mark.parametrize("missing", [0, 2])
async def test_a_changelog_of_which_a_part_was_deleted_is_not_read_on(
    danube_memory: MemoryPlatform, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    async with danube_memory.client() as client:
        async with client.producer("/default/changes") as producer:
            await producer.send("one")
        read = client.reader

        @asynccontextmanager
        async def lossy(*args: Any, **options: Any) -> AsyncIterator[Any]:
            async with read(*args, **options) as reader:
                monkeypatch.setattr(type(reader), "missing", property(lambda _: missing))
                yield reader

        monkeypatch.setattr(client, "reader", lossy)
        told = asyncio.Event()
        source = Followed(client, "/default/changes", told.set)
        source.resume()
        async with asyncio.timeout(5):
            await told.wait()
        await source.close()
        assert isinstance(source.failed, MessagesLost) == bool(missing)
        assert source.log.unread == (0 if missing else 1)
