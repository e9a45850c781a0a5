from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danube_client import CallError
from danube_client.testing.memory import MemoryPlatform
from danube_faust.group import Group
from danube_faust.members import Member


async def test_a_worker_that_may_not_hear_the_others_is_told_so_instead_of_waiting(
    danube_memory: MemoryPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = CallError("PERMISSION_DENIED", "ann has no permission consume on /default/app-__members")

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise denied

    async with danube_memory.client() as client:
        told = asyncio.Event()
        group = Group(client, "/default/app-__members", told.set)
        monkeypatch.setattr(client, "reader", refuse)
        await group.join(Member("one", "http://one", ("orders",)))
        async with asyncio.timeout(5):
            await told.wait()
        assert group.failed is denied
        await group.leave()
