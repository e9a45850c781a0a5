from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from danube_standalone.data_dir import DataDir, InUse


def test_an_instance_keeps_its_id_and_no_two_share_one(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path / "d")
    names = [f"gateway-{number}" for number in range(50)]
    ids = [first.instance_id(name) for name in names]
    first.close()
    second = DataDir.open(tmp_path / "d")
    assert [second.instance_id(name) for name in names] == ids
    assert len(set(ids)) == 50
    assert all(0 < int(one) < 1 << 63 for one in ids)
    second.close()


def test_a_directory_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path)
    with pytest.raises(InUse, match="in use by another danube-standalone"):
        DataDir.open(tmp_path, wait_s=0)
    first.close()
    DataDir.open(tmp_path, wait_s=0).close()


def test_the_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path)
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, pass_fds=(first.lock_fd,))
    first.close()
    with pytest.raises(InUse):
        DataDir.open(tmp_path, wait_s=0)
    child.communicate()
    DataDir.open(tmp_path, wait_s=0).close()
