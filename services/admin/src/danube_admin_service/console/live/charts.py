"""Charts of the last hour: what a template draws of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.live.figures import rate, size
from danube_admin_service.console.live.scrape import Flow

WIDTH: Final = 600
HEIGHT: Final = 120
"""Of the drawing, which is stretched to its place."""
TICKS: Final = 2
"""Lines of the grid above 0."""
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A line of the grid. ``y`` is from 0 at the top to HEIGHT."""

    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """The values of one direction; ``area`` is what lies below the line."""

    name: str
    points: str
    area: str
    now: str


@dataclass(frozen=True)
class Chart:
    """A chart of one unit.

    Attributes:
        label: what is in it, in words.
    """

    title: str
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    label: str


def messages_chart(history: Sequence[Flow], samples_max: int) -> Chart:
    """Return the chart of messages a second."""
    ins, outs = [one.messages_in for one in history], [one.messages_out for one in history]
    return _chart("Messages a second", ins, outs, rate, samples_max)


def bytes_chart(history: Sequence[Flow], samples_max: int) -> Chart:
    """Return the chart of bytes a second."""
    ins, outs = [one.bytes_in for one in history], [one.bytes_out for one in history]
    return _chart("Bytes a second", ins, outs, size, samples_max)


def _chart(
    title: str,
    ins: Sequence[float],
    outs: Sequence[float],
    written: Callable[[float], str],
    samples_max: int,
) -> Chart:
    highest = max((*ins, *outs), default=0.0)
    top = nice_top(highest) if written is rate else nice_bytes(highest)
    lines = tuple(
        Line(name, points(values, top, samples_max), area(values, top, samples_max), written(_last(values)))
        for name, values in (("in", ins), ("out", outs))
    )
    ticks = tuple(
        Tick(HEIGHT * (1 - step / TICKS), written(top * step / TICKS)) for step in range(1, TICKS + 1)
    )
    now = ", ".join(f"{line.name} now {line.now}" for line in lines)
    return Chart(title, lines, ticks, f"{title} in the last hour: {now}, scale to {written(top)}")


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0


def nice_top(value: float) -> float:
    """Return the end of a scale that holds a value: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in _STEPS if power * step >= value)


def nice_bytes(value: float) -> float:
    """Return the same for bytes: a round number of B, KiB, MiB and so on."""
    unit = 1.0
    while value >= 1024 * unit:
        unit *= 1024
    return unit * min(nice_top(value / unit), 1024.0)


def points(values: Sequence[float], top: float, samples_max: int) -> str:
    """Return the points of a line; the newest value is at the right end."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in _places(values, top, samples_max))


def area(values: Sequence[float], top: float, samples_max: int) -> str:
    """Return the points of the area between a line and 0; empty without values."""
    places = _places(values, top, samples_max)
    if not places:
        return ""
    around = ((places[0][0], float(HEIGHT)), *places, (places[-1][0], float(HEIGHT)))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in around)


def _places(values: Sequence[float], top: float, samples_max: int) -> list[tuple[float, float]]:
    start = samples_max - len(values)
    return [
        (WIDTH * (start + index) / max(samples_max - 1, 1), HEIGHT * (1 - value / top))
        for index, value in enumerate(values)
    ]
