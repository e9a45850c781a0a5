"""Shows the progress of sending on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from danube_cli.outcome import complain

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

BAR_INTERVAL_S = 0.1
LINE_INTERVAL_S = 5.0


class SendProgress:
    """A progress display; use it as a context manager."""

    def __init__(self, total_bytes: int | None) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            self._bar, self._task = _bar(total_bytes)
        self._interval_s = BAR_INTERVAL_S if self._bar is not None else LINE_INTERVAL_S

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._began_s

    def show(self, messages: int, read_bytes: int) -> None:
        """Show the number of sent messages and read bytes, unless the display was updated a moment ago."""
        now_s = time.monotonic()
        if now_s - self._shown_s < self._interval_s:
            return
        self._shown_s = now_s
        rate = messages / max(self.seconds(), 1e-9)
        if self._bar is None or self._task is None:
            complain(f"{messages} messages sent, {rate:.0f} msg/s")
        else:
            self._bar.update(self._task, completed=read_bytes, messages=messages, rate=rate)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(total_bytes: int | None) -> tuple[Progress, TaskID]:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and for terminals only
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    measure = BarColumn() if total_bytes else SpinnerColumn()
    text = TextColumn("{task.fields[messages]} messages  {task.fields[rate]:.0f} msg/s")
    bar = Progress(measure, text, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    return bar, bar.add_task("sending", total=total_bytes, messages=0, rate=0.0)
