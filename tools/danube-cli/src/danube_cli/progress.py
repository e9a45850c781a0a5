"""Shows progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from danube_cli.outcome import complain

if TYPE_CHECKING:
    import rich.progress

BAR_INTERVAL_S = 0.1
LINE_INTERVAL_S = 5.0


class Progress:
    """A progress display; use it as a context manager.

    On a terminal it shows the count of messages and their rate and, if the whole is known, a bar and how long
    it will take yet.
    """

    def __init__(self, done: str, whole: int | None, *, shown: bool = True) -> None:
        self._done = done
        self._began_s = self._shown_s = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        self._shown = shown
        if shown and sys.stderr.isatty():
            self._bar, self._task = _bar(done, whole)
        self._interval_s = BAR_INTERVAL_S if self._bar is not None else LINE_INTERVAL_S

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._began_s

    def show(self, messages: int, completed: int) -> None:
        """Show the number of messages and how much of the whole is done, unless it was shown a moment ago."""
        now_s = time.monotonic()
        if now_s - self._shown_s < self._interval_s or not self._shown:
            return
        self._shown_s = now_s
        rate = messages / max(self.seconds(), 1e-9)
        if self._bar is None or self._task is None:
            complain(f"{messages} messages {self._done}, {rate:.0f} msg/s")
        else:
            self._bar.update(self._task, completed=completed, messages=messages, rate=rate)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(done: str, whole: int | None) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and for terminals only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    text = TextColumn(f"{{task.fields[messages]}} messages {done}  {{task.fields[rate]:.0f}} msg/s")
    if whole:
        columns = [BarColumn(), TaskProgressColumn(), text, TextColumn("left"), TimeRemainingColumn()]
    else:
        columns = [SpinnerColumn(), text, TimeElapsedColumn()]
    # What a command prints must not become a part of the bar.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    return bar, bar.add_task(done, total=whole, messages=0, rate=0.0)
