"""Tables and plots of text: how figures grow with what they are measured over."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from danube_harness.platforms.standalone import Platform

BAR = 40
KINDS = ("gateway", "topic-owner", "storage", "admin", "nats")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Row = Mapping[str, float]


def table(rows: Sequence[Row]) -> str:
    """The rows under the names of their figures, right-aligned."""
    names = list(rows[0])
    cells = [names, *([_shown(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def plot(rows: Sequence[Row], over: str, *figures: str) -> str:
    """A bar for each row and figure, each figure to its own scale from 0."""
    lines: list[str] = []
    width = max(len(_shown(row[over])) for row in rows)
    for figure in figures:
        top = max(row[figure] for row in rows) or 1.0
        lines.append(f"{figure}, over {over}:")
        for row in rows:
            bar = "#" * max(round(BAR * row[figure] / top), row[figure] > 0)
            lines.append(f"  {_shown(row[over]).rjust(width)} |{bar} {_shown(row[figure])}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}".replace(",", " ")


def cpu_s(platform: Platform) -> Counter[str]:
    """CPU seconds of the platform's processes so far, by kind."""
    found: Counter[str] = Counter()
    for kind in KINDS:
        for pid in platform.pids(kind):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[kind] += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # type: ignore[assignment]
    return found


def memory_bytes(platform: Platform, kind: str) -> int:
    """Resident memory of all processes of a kind."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in platform.pids(kind)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def stopwatch(row: dict[str, float], name: str) -> Iterator[None]:
    """Notes how many seconds the block took as ``row[name]``."""
    began = time.perf_counter()
    yield
    row[name] = time.perf_counter() - began
