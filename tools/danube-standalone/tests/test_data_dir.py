from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from danube_standalone import data_dir
from danube_standalone.data_dir import DISK_FREE_LOW, DISK_FREE_MIN, DataDir, DiskWatch, InUse, Unusable


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


def test_a_path_that_cannot_be_a_directory_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "file", "it is no directory"),
        (tmp_path / "file" / "x", "Not a directory"),
    ):
        with pytest.raises(Unusable) as caught:
            DataDir.open(path)
        assert str(caught.value) == f"{path} cannot be the data directory: {path}: {reason}"


@pytest.mark.parametrize("part", [".", "segments", "nats/store", "logs/gateway.log", "instances.json"])
def test_what_cannot_be_written_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    DataDir.open(tmp_path).close()
    if not (tmp_path / part).exists():
        (tmp_path / part).mkdir() if "." not in part else (tmp_path / part).touch()
    access = os.access  # a test may run as root, whom no file refuses
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / part and access(path, mode))
    with pytest.raises(Unusable) as caught:
        DataDir.open(tmp_path, wait_s=0)
    assert str(caught.value) == (
        f"{tmp_path} cannot be the data directory: {tmp_path / part}: Permission denied"
    )
    monkeypatch.undo()
    DataDir.open(tmp_path, wait_s=0).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"gateway": 7}', '{"gateway": "-7"}'])
def test_damaged_instance_ids_are_told_and_left_alone(tmp_path: Path, text: str) -> None:
    directory = DataDir.open(tmp_path)
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(Unusable, match=r"instances\.json is damaged: put it back"):
        directory.instance_id("gateway")
    assert (tmp_path / "instances.json").read_text() == text
    directory.close()


def test_on_a_full_disk_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_dir, "DISK_FREE_MIN", 1 << 60)
    with pytest.raises(Unusable, match=r"the disk of .* is full: \d+ MiB are free"):
        DataDir.open(tmp_path)


MIB = 1 << 20
FULL = "[1] {} [ERR] JetStream failed to store a msg: no space left on device"


def test_a_disk_that_fills_up_is_told_once_and_so_is_room_again() -> None:
    watch = DiskWatch()
    assert watch.judge(DISK_FREE_LOW, "ready") == ("", False)
    assert watch.judge(200 * MIB, "ready") == (
        "200 MiB are free on the disk: when it is full, publishing stops",
        False,
    )
    assert watch.judge(100 * MIB, "ready") == ("", False)
    assert watch.judge(300 * MIB, "ready") == ("300 MiB are free on the disk again", False)


def test_nats_is_started_again_only_when_it_goes_on_complaining_while_there_is_room() -> None:
    watch = DiskWatch(_low=True)
    assert not watch.judge(0, FULL.format(1))[1]
    assert not watch.judge(0, FULL.format(2))[1]
    assert not watch.judge(DISK_FREE_MIN, FULL.format(2))[1]
    assert not watch.judge(DISK_FREE_MIN, FULL.format(2))[1]  # an old complaint
    assert watch.judge(DISK_FREE_MIN, FULL.format(3)) == (
        "nats takes the disk for full, and 16 MiB are free on the disk: starting nats again",
        True,
    )
    assert not watch.judge(DISK_FREE_MIN, FULL.format(4))[1]
    assert not watch.judge(DISK_FREE_MIN, "Server is ready")[1]
    assert not watch.judge(DISK_FREE_MIN, FULL.format(5))[1]
