from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest

from danube_gateway.dialects.stream.consumer_stream import ConsumerStream
from danube_gateway.dialects.stream.feed import Feed
from danube_proto import danube_stream_pb2 as api


async def test_a_call_that_is_cancelled_while_it_closes_leaves_no_session_behind() -> None:
    sessions = Mock()
    made = cast("Any", Mock())
    wanted = api.Subscribe(topics=["/default/t"], subscription="s", consumer_name="c")
    stream = ConsumerStream(made, wanted, made, made, made, sessions, made)
    feed = Feed(0, made, stream._subscribing)
    session = feed.session = Mock()
    stream._feeds.append(feed)
    closing_began = asyncio.Event()

    async def lingering() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closing_began.set()
            await asyncio.Event().wait()  # until it is cancelled once more

    stream._spawn(lingering())
    await asyncio.sleep(0)
    closing = asyncio.create_task(stream.close())
    await closing_began.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    sessions.close.assert_called_once_with(session)
