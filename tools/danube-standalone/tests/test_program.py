from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from danube_standalone.program import last_words, rotate, tail


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 10)
    rotate(log, bytes_max=10)
    assert list(tmp_path.iterdir()) == [log]


def test_a_log_over_its_bound_moves_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        for round_number in range(3):
            writer.write(b"%d" % round_number * 11)
            rotate(log, bytes_max=10)
            writer.write(b"after")
            assert log.read_bytes() == b"after"
    assert (tmp_path / "a.log.1").read_bytes() == b"after" + b"2" * 11
    assert len(list(tmp_path.iterdir())) == 2


def test_a_log_that_a_full_disk_cannot_copy_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_files: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    log = tmp_path / "a.log"
    log.write_text("x" * 11)
    rotate(log, bytes_max=10)
    assert log.read_bytes() == b""


def test_a_missing_log_is_no_trouble(tmp_path: Path) -> None:
    rotate(tmp_path / "none.log")
    assert tail(tmp_path / "none.log", 3) == []


def test_the_tail_is_the_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"".join(b"line %d\n\n" % number for number in range(10_000)) + b"\xff end")
    assert tail(log, 2) == ["line 9999", "\N{REPLACEMENT CHARACTER} end"]


ERROR = '{"level":"error","event":"task_failed","exception":"Traceback (...):\\n  File\\nRefused: no"}'
STOPPED = '{"level":"info","event":"stopped","status":1}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([STOPPED], ""),
        (["{", ERROR, '{"level":"warning","event":"bus_lost"}', STOPPED], "task_failed: Refused: no"),
        (['{"level":"critical","event":"gone","error":"no disk"}', STOPPED], "gone: no disk"),
        (['{"level":"error","event":"gone"}', "[]"], "gone"),
        (
            [ERROR, "Traceback (most recent call last):", "  File", "OSError: it went wrong"],
            "OSError: it went wrong",
        ),
        ([ERROR, *[STOPPED] * 20], ""),
    ],
)
def test_the_last_words_of_a_program_tell_of_a_failure_only(
    tmp_path: Path, lines: list[str], words: str
) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    assert last_words(log) == words
