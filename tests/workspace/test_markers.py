"""Tests that start servers are not among those of `make unit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


def test_a_test_that_asks_for_a_server_is_left_out_where_servers_are_not_wanted() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not server"]
    asked = "services/storage/tests/archive/test_leases.py"
    done = subprocess.run([*command, asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout
    assert "deselected" in done.stdout
