from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from services.admin.tests.backup.test_segment_check import DATA, RECORD

from danube_admin_service.backup.capture import read_segment
from danube_common.archive.records import ManifestEntry
from danube_common.cluster import keys
from danube_common.cluster.records import encode_record
from danube_common.errors import NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.repair import (
    REPAIR,
    FetchSegment,
    RepairRequest,
    SegmentBytes,
    repair_subject,
)
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.metadata import MemoryMetadata
from danube_proto import danube_operations_pb2 as wire

F0 = Bundle.parse("f0")
ROTTEN = bytes([*DATA[:100], DATA[100] ^ 1, *DATA[101:]])
REQUEST = wire.ReadSegmentRequest(bundle="f0", first_sequence=1, key=RECORD.key)


class Holders:
    """Storage instances that hold one segment."""

    def __init__(self) -> None:
        self.bus = MemoryBus(MemoryHub())
        self.store = MemoryMetadata()

    async def hold(self, copies: dict[str, bytes]) -> None:
        for holder, copy in copies.items():

            async def answer(request: RepairRequest, copy: bytes = copy) -> msgspec.Struct:
                assert isinstance(request, FetchSegment)
                return SegmentBytes(copy[request.offset : request.offset + 500], len(copy))

            await self.bus.serve(repair_subject(holder), REPAIR.handler(answer))
        record = msgspec.structs.replace(RECORD, holders=tuple(copies))
        entry = ManifestEntry("f0", 1, 39, 0, "1", (record,), ())
        await self.store.put(keys.manifest_key(F0, 1), encode_record(entry))

    async def read(self) -> bytes:
        data = b""
        async for part in read_segment(self.store, self.bus, REQUEST):
            data = part.data if part.anew else data + part.data
        return data


@pytest_asyncio.fixture
async def holders() -> AsyncIterator[Holders]:
    holders = Holders()
    yield holders
    await holders.bus.close()


async def test_of_a_damaged_copy_another_holder_s_is_read(holders: Holders) -> None:
    await holders.hold({"1": ROTTEN, "2": DATA})
    assert await holders.read() == DATA


async def test_a_segment_without_an_intact_copy_is_refused_with_its_name_and_why(holders: Holders) -> None:
    await holders.hold({"1": ROTTEN, "2": DATA[:-1]})
    with pytest.raises(Unavailable, match=r"segment k cannot be read: .*1: .*checksum; .*2: .*bytes and not"):
        await holders.read()


async def test_a_segment_that_retention_took_is_gone(holders: Holders) -> None:
    parts = [part async for part in read_segment(holders.store, holders.bus, REQUEST)]
    assert [part.gone for part in parts] == [True]


async def test_a_segment_that_retention_takes_while_it_is_read_is_gone(holders: Holders) -> None:
    async def delete(_: RepairRequest) -> msgspec.Struct:
        await holders.store.delete(keys.manifest_key(F0, 1))
        raise NotFound("no such segment")

    await holders.bus.serve(repair_subject("2"), REPAIR.handler(delete))
    record = msgspec.structs.replace(RECORD, holders=("2",))
    entry = ManifestEntry("f0", 1, 39, 0, "1", (record,), ())
    await holders.store.put(keys.manifest_key(F0, 1), encode_record(entry))
    parts = [part async for part in read_segment(holders.store, holders.bus, REQUEST)]
    assert [part.gone for part in parts] == [True]
