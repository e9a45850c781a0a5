"""Without Faust there is nothing to test here: `make setup-test` installs it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

collect_ignore_glob: list[str] = []
try:
    version("faust-streaming")
except PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str | None:
    if collect_ignore_glob:
        return "tests of danube_faust are SKIPPED: Faust is not installed; `make setup-test` installs it"
    return None
