from __future__ import annotations

import asyncio

import pytest

from danube_common.errors import MetadataUnavailable
from danube_common.metadata.rewrite import ATTEMPTS_MAX, rewrite
from danube_harness.memory.metadata import MemoryMetadata


async def test_of_many_who_change_one_value_none_is_overwritten() -> None:
    store = MemoryMetadata()

    def one_more(value: bytes | None) -> bytes:
        return b"%d" % (int(value or b"0") + 1)

    await asyncio.gather(*(rewrite(store, "/count", one_more) for _ in range(20)))
    entry = await store.get("/count")
    assert entry is not None
    assert entry.value == b"20"


async def test_nothing_to_do_writes_nothing() -> None:
    store = MemoryMetadata()
    assert await rewrite(store, "/absent", lambda _: None) is None
    assert await store.get("/absent") is None


async def test_a_writer_that_is_always_late_gives_up_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryMetadata()
    put, attempts = store.put, 0

    async def overtaken(key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        nonlocal attempts
        attempts += 1
        await put(key, b"another's")
        return await put(key, value, expected_revision=expected_revision)

    monkeypatch.setattr(store, "put", overtaken)
    with pytest.raises(MetadataUnavailable):
        await rewrite(store, "/contended", lambda _: b"mine")
    assert attempts == ATTEMPTS_MAX
