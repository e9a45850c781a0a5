"""How figures are written for people: pure. The pages' templates use these as filters."""

from __future__ import annotations

import time
from typing import Final

_STEPS: Final = ((60, "s"), (60, "min"), (24, "h"))


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
            return f"{value:.0f}\u202f{unit}" if unit == "B" or value >= 100 else f"{value:.1f}\u202f{unit}"
        value /= 1024
    return f"{value:.1f}\u202fTiB"


def age(seconds: float) -> str:
    """Write a duration with its largest unit: 200 ms, 12 s, 3 min, 5 h, 2 d."""
    value = max(seconds, 0.0)
    if 0 < value < 1:
        return f"{1000 * value:.0f}\u202fms"
    for step, unit in _STEPS:
        if value < step:
            return f"{value:.0f}\u202f{unit}"
        value /= step
    return f"{value:.0f}\u202fd"


def moment(ms: int) -> str:
    """Write a time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000)) + " UTC" if ms else "—"


def clock(ms: int) -> str:
    """Write a time of a day in UTC: 12:30, or with the day if it is not of today."""
    if not ms:
        return "—"
    at = time.gmtime(ms / 1000)
    today = time.gmtime()[:3] == at[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", at)
