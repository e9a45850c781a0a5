"""The audit log: what it holds, and what happens while it cannot be written."""

from __future__ import annotations

import json
from os import write
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from danube_common.security import audit as audit_module
from danube_common.security.audit import LINES_PER_S_MAX, AuditLog


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(audit_module, "OPEN_AGAIN_S", 0.0)
    return tmp_path / "audit.log"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_loss_of_the_file_is_told_once_and_its_return_too(file: Path) -> None:
    log = AuditLog(file)
    log.start()
    assert log.write({"n": 1})
    file.unlink()
    file.mkdir()  # nothing can be appended to it
    with capture_logs() as told:
        assert not log.write({"n": 2})
        assert not log.write({"n": 3})
        assert "cannot be written" in str(log.problem)
        file.rmdir()
        assert log.write({"n": 4})
    assert log.problem is None
    log.close()
    assert [line["event"] for line in told] == ["audit_lost", "audit_back"]
    assert [line["n"] for line in lines(file)] == [4]


def test_a_line_that_was_cut_takes_no_other_with_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    log = AuditLog(file)
    log.start()
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda to, data: write(to, data[:5]))
        assert not log.write({"n": 1})
        assert not log.write({"n": 2})
    assert log.write({"n": 3})
    assert log.write({"n": 4})
    log.close()
    whole = [line for line in file.read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["n"] for line in whole] == [3, 4]


def test_a_file_that_was_rotated_is_begun_anew_and_only_its_owner_reads_it(file: Path) -> None:
    log = AuditLog(file)
    log.start()
    log.write({"n": 1})
    file.rename(file.with_suffix(".1"))
    log.write({"n": 2})
    log.close()
    assert [[line["n"] for line in lines(one)] for one in (file.with_suffix(".1"), file)] == [[1], [2]]
    assert file.stat().st_mode & 0o777 == 0o600


def test_denials_cannot_fill_the_disk_and_hide_no_administration(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("danube_common.security.audit.time.time", lambda: now_s)
    log = AuditLog(file)
    log.start()
    for _ in range(LINES_PER_S_MAX + 50):
        assert log.write({"denied": True}, may_drop=True)
    log.write({"denied": False})
    assert len(lines(file)) == LINES_PER_S_MAX + 1
    now_s = 1001.0
    log.write({"denied": False})
    log.close()
    assert [line.get("left_out") for line in lines(file)[-2:]] == [50, None]


def test_a_name_with_a_line_end_makes_no_line_of_its_own(file: Path) -> None:
    log = AuditLog(file)
    log.start()
    log.write({"resource": 'topic /a/b\n{"allowed":true}'})
    log.close()
    assert len(lines(file)) == 1
