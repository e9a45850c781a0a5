"""Coverage-guided fuzzing of all decoders, one process each: `make fuzz MINUTES=5`.

What a process finds is kept in reports/fuzz/NAME. The next run begins with it, and with the corpus of the
repository, to which `python -m tests.fuzz --keep` adds. A crash stays in reports/fuzz as crash-...; status 1.
`python -m tests.fuzz NAME FILE` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import keep
from tests.fuzz.targets import TARGETS, open_target

KEPT: Final = Path("reports/fuzz")
EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units: +([0-9]+)")
COVERED: Final = re.compile(r"cov: ([0-9]+)")
FOUND: Final = ("crash-*", "timeout-*", "oom-*")


def run(name: str, seconds: int) -> bool:
    """Fuzz one decoder, print what came of it, and return whether nothing was found."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.fuzzer", name, str(seconds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.with_suffix(".log").write_text(done.stdout + done.stderr)
    executions = EXECUTIONS.findall(done.stderr) or ["0"]
    covered = COVERED.findall(done.stderr) or ["0"]
    found = sorted(file.name for pattern in FOUND for file in folder.glob(pattern))
    well = done.returncode == 0 and not found
    told = "nothing found" if well else f"status {done.returncode}: {', '.join(found) or 'see the log'}"
    print(f"{name:12} {int(executions[-1]):>11,} executions, coverage {covered[-1]:>4}: {told}", flush=True)
    return well


def main() -> int:
    """Fuzz, or repeat an input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=sorted(TARGETS), help="one decoder; default: all, in turn")
    parser.add_argument("file", nargs="?", type=Path, help="repeat this input")
    parser.add_argument("--keep", action="store_true", help="put what was found into the repository's corpus")
    parser.add_argument("--seconds", type=int, default=60, help="for all together")
    given = parser.parse_args()
    if given.file:
        target = open_target(given.name)
        with contextlib.suppress(*target.allowed):
            target.decode(given.file.read_bytes())
        return 0
    if given.keep:
        for name in TARGETS:
            keep(name, KEPT / name)
        return 0
    names = [given.name] if given.name else list(TARGETS)
    well = [run(name, max(given.seconds // len(names), 1)) for name in names]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
