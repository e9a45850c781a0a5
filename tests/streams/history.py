"""What workers did and when, and whether two of them had one partition at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOPIC = "history-numbers"
PARTITIONS = 4
ENDLESS = float("inf")

Note = Sequence[Any]
"""What, process id, time, and facts; see `history_app`."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a process had a partition, or worked on an event of it.

    Attributes:
        partition: its number.
        pid: of the worker.
        begin: seconds of the machine's clock.
        end: the same.
    """

    partition: int
    pid: int
    begin: float
    end: float


def read(directory: Path) -> list[Note]:
    """Return what all workers of a directory noted, in order."""
    files = directory.glob("*.history")
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(found, key=lambda note: float(note[2]))


def worked(notes: Iterable[Note], ended: Mapping[int, float]) -> list[Span]:
    """Return when each event was worked on; what has no end ended with its process."""
    spans: list[Span] = []
    open_: dict[tuple[int, int, int], float] = {}
    for what, pid, at, *facts in notes:
        if what == "begin":
            open_[pid, facts[0], facts[1]] = at
        elif what == "end" and (begin := open_.pop((pid, facts[0], facts[1]), None)) is not None:
            spans.append(Span(facts[0], pid, begin, at))
    spans += [
        Span(partition, pid, begin, ended.get(pid, ENDLESS)) for (pid, partition, _), begin in open_.items()
    ]
    return spans


def held(notes: Iterable[Note], ended: Mapping[int, float]) -> list[Span]:
    """Return from when to when each worker had each partition."""
    spans: list[Span] = []
    open_: defaultdict[int, dict[int, float]] = defaultdict(dict)

    def close(pid: int, at: float) -> None:
        spans.extend(Span(partition, pid, begin, at) for partition, begin in open_.pop(pid, {}).items())

    for what, pid, at, *facts in notes:
        if what in ("assigned", "revoked"):
            close(pid, at)
        if what == "assigned":
            open_[pid] = dict.fromkeys(map(int, facts[0]), float(at))
    for pid in list(open_):
        close(pid, ended.get(pid, ENDLESS))
    return spans


def overlaps(spans: Iterable[Span]) -> list[tuple[Span, Span]]:
    """Return each two spans of different workers that have a partition and a moment in common."""
    found = []
    by_partition: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.begin):
        earlier = by_partition[span.partition]
        earlier[:] = [one for one in earlier if one.end > span.begin]
        found += [(one, span) for one in earlier if one.pid != span.pid]
        earlier.append(span)
    return found
