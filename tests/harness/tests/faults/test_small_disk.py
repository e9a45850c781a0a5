from __future__ import annotations

import errno
from pathlib import Path

import pytest

from danube_harness.faults.small_disk import SmallDisk


def test_a_full_disk_keeps_what_it_has_refuses_more_and_takes_it_once_freed(tmp_path: Path) -> None:
    try:
        with SmallDisk.mounted(tmp_path / "disk", 1 << 20) as disk:
            kept, more = disk.directory / "kept", disk.directory / "more"
            kept.write_bytes(b"k" * 100_000)
            disk.fill()
            with pytest.raises(OSError, match="No space") as refused:
                more.write_bytes(b"m" * 100_000)
            assert refused.value.errno == errno.ENOSPC
            assert kept.read_bytes() == b"k" * 100_000
            disk.free()
            more.write_bytes(b"m" * 100_000)
            assert disk.used_bytes >= 200_000
    except PermissionError as error:
        pytest.skip(f"NO DISK CAN BE FILLED HERE, nothing is proved about full disks: {error}")
    assert list((tmp_path / "disk").iterdir()) == []


def test_where_nothing_can_be_mounted_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="mount"), SmallDisk.mounted(tmp_path, -1):
        pass
