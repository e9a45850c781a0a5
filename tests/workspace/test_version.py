"""Every program tells the one version of the workspace."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = (
    "danube-admin",
    "danube-admin-service",
    "danube-cli",
    "danube-faust",
    "danube-gateway",
    "danube-perf",
    "danube-standalone",
    "danube-storage",
    "danube-topic-owner",
)


def test_every_program_is_named() -> None:
    scripts = Path(sysconfig.get_path("scripts")).glob("danube-*")
    assert sorted(script.name for script in scripts) == list(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_tells_its_name_and_the_version(program: str) -> None:
    command = [f"{sysconfig.get_path('scripts')}/{program}", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == (f"{program} {(ROOT / 'VERSION').read_text().strip()}\n", "")
