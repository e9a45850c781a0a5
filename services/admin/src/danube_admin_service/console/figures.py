"""How figures are written for people, and drawn: pure. The pages' templates use these as filters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

_STEPS: Final = ((60, "s"), (60, "min"), (24, "h"))
CHART_WIDTH: Final = 600
CHART_HEIGHT: Final = 120


def count(value: float) -> str:
    """Write a number: 12, 1 234, 12.3 k, 4.5 M."""
    if value < 10_000:
        return f"{value:,.0f}".replace(",", "\u202f")
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f}\u202f{unit}"
    return f"{value / 1000:.1f}\u202fT"


def rate(value: float) -> str:
    """Write a rate a second; small ones with a decimal."""
    return f"{value:.1f}" if 0 < value < 10 else count(value)


def size(value: float) -> str:
    """Write bytes: 12 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f}\u202f{unit}" if unit == "B" else f"{value:.1f}\u202f{unit}"
        value /= 1024
    return f"{value:.1f}\u202fTiB"


def age(seconds: float) -> str:
    """Write a duration with its largest unit: 12 s, 3 min, 5 h, 2 d."""
    value = max(seconds, 0.0)
    for step, unit in _STEPS:
        if value < step:
            return f"{value:.0f}\u202f{unit}"
        value /= step
    return f"{value:.0f}\u202fd"


def moment(ms: int) -> str:
    """Write a time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000)) + " UTC" if ms else "—"


def polyline(values: Sequence[float], top: float, samples_max: int) -> str:
    """Return the points of a line in a chart of CHART_WIDTH by CHART_HEIGHT; the newest value is right."""
    start = samples_max - len(values)
    return " ".join(
        f"{CHART_WIDTH * (start + index) / max(samples_max - 1, 1):.1f},"
        f"{CHART_HEIGHT * (1 - value / top) if top else CHART_HEIGHT:.1f}"
        for index, value in enumerate(values)
    )
