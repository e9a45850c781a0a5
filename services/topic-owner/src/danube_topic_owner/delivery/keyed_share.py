"""What a consumer of a key-shared subscription gets in one dispatch. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from operator import sub

from danube_common.model.run import Run
from danube_topic_owner.delivery.consumer import Consumer
from danube_topic_owner.delivery.dispatch import DELIVERY_BYTES_MAX, DELIVERY_MESSAGES_MAX
from danube_topic_owner.delivery.keyed_flight import Entry


@dataclass(slots=True, eq=False)
class Share:
    """What a consumer gets in one dispatch, and the room that it has left."""

    consumer: Consumer
    messages: int
    size: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """Whether one more message may be added; the last one may exceed the bound in bytes."""
        return self.messages > 0 and self.size > 0


def deliverable(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield messages in parts that one delivery may carry."""
    ends = list(accumulate([len(entry[2]) for entry in entries]))
    start = before = 0
    while start < len(entries):
        fits = bisect_right(ends, before + DELIVERY_BYTES_MAX, start)
        end = min(start + DELIVERY_MESSAGES_MAX, max(fits, start + 1))
        yield entries[start:end]
        start, before = end, ends[end - 1]


def runs_of(entries: Sequence[Entry]) -> list[Run]:
    """Return messages as runs of those that are adjacent, whose bytes are back to back."""
    messages = [entry[2] for entry in entries]
    data, ends = b"".join(messages), tuple(accumulate(map(len, messages)))
    positions = [entry[0] for entry in entries]
    gaps = [at for at, step in enumerate(map(sub, positions[1:], positions), 1) if step != 1]
    runs: list[Run] = []
    for low, high in pairwise([0, *gaps, len(entries)]):
        first, shift, *_ = entries[low]
        runs.append(Run(first, ends, low, high, data, first + shift))
    return runs
