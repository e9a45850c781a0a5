from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import LogUnavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.frame import encode_frame
from danube_harness.memory.log import MemoryLog
from danube_storage.archive import log_range as module
from danube_storage.archive.log_range import CorruptFrame, read_range

BUNDLE = Bundle.parse("f0")


async def filled(frames: list[int]) -> tuple[MemoryLog, list[bytes]]:
    """A log of frames with so many sections each; 0 is a frame that does not decode."""
    log = MemoryLog()
    await log.open(BUNDLE)
    stored = []
    for number, sections in enumerate(frames, start=1):
        frame = encode_frame(1, number, [(topic_id, [b"m" * 20]) for topic_id in range(1, sections + 1)])
        stored.append(frame if sections else b"nonsense")
        await log.append(BUNDLE, stored[-1], frame_id=str(number), timeout_s=1)
    return log, stored


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 4),
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(1, 8),
)
async def test_a_log_range_is_what_the_log_has_up_to_its_first_bound_or_corrupt_frame(
    frames: list[int], lost: int, bytes_max: int, read_bytes: int, sections_max: int
) -> None:
    log, stored = await filled(frames)
    lost = min(lost, len(frames) - 1)
    await log.purge(BUNDLE, lost)
    with mock.patch.multiple(module, READ_BYTES=read_bytes, SECTIONS_MAX=sections_max):
        if frames[lost] == 0:
            with pytest.raises(CorruptFrame) as corrupt:
                await read_range(log, BUNDLE, 1, len(frames), bytes_max=bytes_max)
            assert corrupt.value.entry.sequence == lost + 1
            return
        found = await read_range(log, BUNDLE, 1, len(frames), bytes_max=bytes_max)
    last = found.last_sequence
    assert [(s.sequence, s.number) for s in found.sections] == [
        (sequence, number) for sequence in range(lost + 1, last + 1) for number in range(frames[sequence - 1])
    ]
    assert found.missing == lost
    taken = frames[lost:last]
    assert 0 not in taken
    ended = last == len(frames) or frames[last] == 0
    assert ended or sum(map(len, stored[lost:last])) >= bytes_max or sum(taken) >= sections_max
    assert sum(map(len, stored[lost : last - 1])) < bytes_max


async def test_a_log_that_ends_too_early_is_no_log_range() -> None:
    log, _ = await filled([1, 1])
    with pytest.raises(LogUnavailable):
        await read_range(log, BUNDLE, 1, 3, bytes_max=1000)
