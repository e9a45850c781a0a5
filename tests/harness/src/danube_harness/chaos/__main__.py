"""A run of chosen length that leaves its report: ``python -m danube_harness.chaos --minutes 30``."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from danube_harness.chaos.report import page, text
from danube_harness.chaos.run import RATE, run
from danube_harness.traffic.clients import TOPICS, mass

SEED_MAX = 2**32


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns 0 if every guarantee was kept, else 1."""
    parser = argparse.ArgumentParser(prog="python -m danube_harness.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults [2]")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's faults [a new one]")
    parser.add_argument("--rate", type=float, default=RATE, help=f"messages a second [{RATE:g}]")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where reports go [reports]")
    given = parser.parse_args(argv)
    seed = secrets.randbelow(SEED_MAX) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="danube-chaos-"))
    tell(f"seed {seed}; data and logs in {directory}")
    topics = (*TOPICS, mass(given.rate))
    outcome = asyncio.run(run(directory, seed=seed, duration_s=60 * given.minutes, topics=topics, tell=tell))
    given.reports.mkdir(parents=True, exist_ok=True)
    stem = given.reports / f"chaos-{datetime.now(UTC):%Y%m%d-%H%M%S}-{seed}"
    for suffix, content in ((".txt", text(outcome)), (".html", page(outcome))):
        stem.with_suffix(suffix).write_text(content)
    tell(f"\n{text(outcome)}\nreport: {stem}.txt, {stem}.html")
    if outcome.problems():
        tell(f"data and logs are kept in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def tell(line: str) -> None:
    """A line for people, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
