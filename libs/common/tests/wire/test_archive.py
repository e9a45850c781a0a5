from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.wire.archive import ARCHIVE, SegmentData, encode_data

POSITIONS = st.integers(0, (1 << 63) - 1)


@given(st.lists(st.binary(max_size=300)), POSITIONS, st.text(), st.lists(POSITIONS, max_size=3))
def test_data_encoded_from_parts_is_data(
    parts: list[bytes], position: int, corrupt: str, splits: list[int]
) -> None:
    found = ARCHIVE.decode_reply(encode_data(parts, SegmentData(b"", position, corrupt, tuple(splits))))
    whole = SegmentData(b"".join(parts), position, corrupt, tuple(splits))
    assert found == ARCHIVE.decode_reply(ARCHIVE.encode(whole))
    assert isinstance(found, SegmentData)
    assert bytes(found.entries) == whole.entries


def test_data_that_has_entries_already_takes_no_parts() -> None:
    with pytest.raises(ValueError, match="parts"):
        encode_data([b"a"], SegmentData(b"b", 1))
