"""The site of the documentation."""

from __future__ import annotations

import inspect
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import danube_client

ROOT: Final = Path(__file__).resolve().parents[2]


def test_the_site_builds_without_a_warning_and_its_reference_names_all_that_is_public(tmp_path: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / "mkdocs"
    done = subprocess.run(
        [program, "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    public = [name for name in danube_client.__all__ if inspect.isroutine(vars(danube_client)[name])]
    public += [name for name in danube_client.__all__ if inspect.isclass(vars(danube_client)[name])]
    missing = [name for name in public if f'id="danube_client.{name}"' not in reference]
    assert not missing
