"""This version beside another one of the repository, in turn: `make bench-compare AGAINST=version`.

The other version is checked out in a worktree of its own and gets an environment of its own, both of which
are removed at the end. The same clients measure both: `h2load` if it is installed, else `danube-perf`; and
the official Rust client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.perf import ROOT, h2load, perf
from tests.benchmarks.scenarios import IN_FLIGHT, MEASURED, SECONDS, official
from tests.benchmarks.speed_page import COMPARISON, REPORTS, shown
from tests.official.rust_bench import CannotBuild, build

from danube_harness.platforms.standalone import Platform

GIT = shutil.which("git") or "git"
MAKE = shutil.which("make") or "make"
KINDS = {"non-reliable": "none", "disk": "disk"}


@contextlib.contextmanager
def checked_out(version: str, directory: Path) -> Iterator[Path]:
    """Check a version out and install it; gives the folder of its programs."""
    tree = directory / "tree"
    subprocess.run([GIT, "worktree", "add", "--detach", tree, version], cwd=ROOT, check=True)
    try:
        print(f"installing {version}: a minute", flush=True)
        subprocess.run([MAKE, "setup", f"PYTHON={sys.executable}", "VENV=.venv"], cwd=tree, check=True)
        yield tree / ".venv/bin"
    finally:
        subprocess.run([GIT, "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measure(platform: Platform, program: Path | None, directory: Path) -> dict[str, float]:
    """Return the figures of one platform in one round."""
    address = platform.gateway_addr
    found: dict[str, float] = {}
    for kind, storage in KINDS.items():
        for in_flight in IN_FLIGHT:
            per_s = h2load(address, storage, in_flight, SECONDS, directory)
            arguments = ("--storage", storage, "--in-flight", in_flight, *MEASURED)
            by_perf = perf("produce", address, *arguments)["publish"]["per_s"]
            found[f"{kind}.{in_flight}.per_s"] = by_perf if per_s is None else per_s
            found[f"{kind}.{in_flight}.danube_perf_per_s"] = by_perf
    return found | official(address, program)


def table(against: str, rounds: list[dict[str, float]]) -> str:
    """Return both versions side by side."""
    lines = [f"| | here | {against} | times |", "|---|---|---|---|"]
    for name in [name.removeprefix("here.") for name in rounds[0] if name.startswith("here.")]:
        pairs = [(one[f"here.{name}"], one[f"there.{name}"]) for one in rounds]
        here, there = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs if b]
        times = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append(f"| {name} | {shown(here)} | {shown(there)} | {times} |")
    return "\n".join(lines)


def main() -> int:
    """Compare, print, and keep the figures for the page."""
    parser = argparse.ArgumentParser(description="This version beside another one.")
    parser.add_argument("against", help="a tag, a branch or a commit")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    try:
        program = build()
    except CannotBuild as error:
        print(f"NOT MEASURED: {error}")
        program = None
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="danube-compare-") as name:
        directory = Path(name)
        with (
            checked_out(options.against, directory) as scripts,
            Platform.run(directory / "there", scripts=scripts) as there,
            Platform.run(directory / "here") as here,
        ):
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", flush=True)
                figures: dict[str, float] = {}
                for side, platform in (("here", here), ("there", there)):
                    measured = measure(platform, program, directory)
                    figures |= {f"{side}.{one}": value for one, value in measured.items()}
                rounds.append(figures)
    REPORTS.mkdir(exist_ok=True)
    COMPARISON.write_text(json.dumps({"against": options.against, "rounds": rounds}, indent=2) + "\n")
    print(f"{table(options.against, rounds)}\nwritten to {COMPARISON}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
