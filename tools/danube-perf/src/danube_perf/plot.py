"""A picture of runs: rates over time, and latency by percentile. Needs matplotlib, which is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class PlotError(Exception):
    """No picture can be made; the text says why."""


def check(path: Path) -> None:
    """Raise PlotError if a picture could not be written there, before a long run."""
    if path.suffix.lower() != ".png":
        raise PlotError(f"{path} does not end with .png")
    if not path.resolve().parent.is_dir():
        raise PlotError(f"there is no folder {path.resolve().parent}")
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415 - optional
    except ImportError:
        raise PlotError("a plot needs matplotlib: pip install 'danubepy-perf[plot]'") from None


def draw(path: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Write a PNG of the figures of runs, by their labels.

    Raises:
        PlotError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    over_time, by_percentile = figure.subplots(1, 2)
    for label, run in runs.items():
        # What is left of an interval at the end is too short for a rate.
        longest = max((one["seconds"] for one in run["timeline"]), default=0.0)
        points = [one for one in run["timeline"] if one["seconds"] > longest / 2]
        for kind in ("produced", "received"):
            if not any(one[kind] for one in points):
                continue
            over_time.plot(
                [one["at_s"] + one["seconds"] for one in points],
                [one[kind] / one["seconds"] for one in points],
                label=f"{label} {kind}".strip(),
                linestyle="-" if kind == "produced" else "--",
            )
        # 1 / (1 - p): 10 is p90, 100 is p99, so the tail has room.
        curve = [(100 / (100 - p), us / 1000) for p, us in run["curve"] if p < 100 and us]
        by_percentile.plot([at for at, _ in curve], [ms for _, ms in curve], marker=".", label=label or None)
    over_time.set(xlabel="seconds", ylabel="messages per second", title="rate")
    over_time.set_ylim(bottom=0)
    by_percentile.set(xscale="log", yscale="log", xlabel="percentile", ylabel="ms", title="latency")
    by_percentile.set_xticks([1, 2, 10, 100, 1000, 10_000], ["0", "50", "90", "99", "99.9", "99.99"])
    for axes in (over_time, by_percentile):
        axes.grid(visible=True, alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise PlotError(f"{path} cannot be written: {error.strerror}") from None
