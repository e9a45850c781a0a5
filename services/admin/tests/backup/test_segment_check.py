from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_admin_service.backup import segment_check
from danube_admin_service.backup.segment_check import SegmentCheck
from danube_common.archive.records import SegmentRecord
from danube_common.errors import CorruptData
from danube_common.model.strategy import StorageBackend
from danube_harness.services.segments import SegmentSample

DATA, INFO = SegmentSample(
    7, 64, [(number, 0, 7, [b"x" * 50] * 3, 3 * number, 1000) for number in range(1, 40)]
).build()
RECORD = SegmentRecord(
    *("k", StorageBackend.DISK, 7, 1, 1, INFO.messages, 0, 1000, 1000),
    size_bytes=len(DATA),
    data_crc32c=INFO.data_crc32c,
)


def checked(data: bytes, step: int = 1000, record: SegmentRecord = RECORD) -> None:
    check = SegmentCheck(record)
    for at in range(0, len(data), step):
        check.feed(data[at : at + step])
    check.finish()


@pytest.mark.parametrize("step", [1, 13, 1000, len(DATA)])
def test_an_intact_segment_passes_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(segment_check, "TAIL_BYTES_MAX", len(DATA) - INFO.data_bytes)
    checked(DATA, step)


@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(at: int, bit: int) -> None:
    rotten = bytearray(DATA)
    rotten[at] ^= 1 << bit
    with pytest.raises(CorruptData):
        checked(bytes(rotten))


def test_a_segment_that_is_cut_short_or_of_another_record_is_found() -> None:
    with pytest.raises(CorruptData, match="bytes and not"):
        checked(DATA[:-1])
    with pytest.raises(CorruptData, match="another segment"):
        checked(DATA, record=msgspec.structs.replace(RECORD, data_crc32c=1))
