"""Writers and readers outside of the containers, and what became of every message."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from danube_client import Reliable, Storage
from danube_harness.traffic.clients import EXCLUSIVE, SHARED, Topic
from danube_harness.traffic.load import Load, Silence

OPEN_S_MAX: Final = 120.0
CATCH_UP_S_MAX: Final = 120.0
QUIET_S: Final = 2.0
"""So long without another message, repeats included, the readers go on after they have everything."""

DISK: Final = Reliable(storage=Storage.DISK)
OBJECTS: Final = Reliable(storage=Storage.S3)
TOPICS: Final = 6
"""Enough for every owner to have some."""


def topics(stem: str, *strategies: Reliable) -> list[Topic]:
    """TOPICS of these names, kept by one strategy after the other."""
    return [
        Topic(
            f"/default/{stem}{number}",
            strategies[number % len(strategies)],
            (EXCLUSIVE, SHARED) if number == 0 else (EXCLUSIVE,),
        )
        for number in range(TOPICS)
    ]


class MarkedLoad(Load):
    """Traffic whose silences are told from each mark to the next.

    Attributes:
        marks: what happened when, monotonic.
        stopped: when the writers were told to stop, monotonic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, str]] = []
        self.stopped = 0.0

    def mark(self, what: str) -> None:
        """Note that something happens now."""
        self.marks.append((time.monotonic(), what))

    @property
    def silences(self) -> list[tuple[str, Silence]]:
        """What each mark said, and the longest silences from it to the next."""
        ends = [*(at for at, _ in self.marks[1:]), self.stopped]
        return [(what, self.silence(at, until)) for (at, what), until in zip(self.marks, ends, strict=True)]

    def text(self) -> str:
        """The silences, then what `Load.text` tells."""
        return "\n".join([*(f"  {what:<41} {silence}" for what, silence in self.silences), super().text()])


@asynccontextmanager
async def load(url: str, written: Sequence[Topic]) -> AsyncIterator[MarkedLoad]:
    """Write to the topics and read from them; leaving it waits until everything acknowledged was received."""
    async with MarkedLoad.run([url], written, open_s_max=OPEN_S_MAX) as under:
        await under.until_flowing()
        yield under
        under.stopped = time.monotonic()
        await under.stop_writing()
        await under.caught_up(CATCH_UP_S_MAX, quiet_s=QUIET_S)
