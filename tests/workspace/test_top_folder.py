from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = {
    *(".ci", ".github", "deploy", "docs", "examples", "libs", "proto", "requirements", "services"),
    *("tests", "tools"),
    *(".editorconfig", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("Makefile", "README.md", "SECURITY.md", "VERSION", "conftest.py", "mkdocs.yml", "pyproject.toml"),
}
SECRETS = {".password", ".pem", ".key", ".token"}


def test_nothing_is_committed_that_a_platform_wrote_here_and_no_secret() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("SKIPPED: this is no git checkout")
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(line) for line in listed.stdout.splitlines()]

    assert {file.parts[0] for file in files} <= TOP
    assert [file for file in files if file.suffix in SECRETS] == []
