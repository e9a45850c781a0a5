"""What a consumer of a key-shared subscription gets in one dispatch. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

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
    start = size = 0
    for at, entry in enumerate(entries):
        if at > start and (at - start >= DELIVERY_MESSAGES_MAX or size + len(entry[2]) > DELIVERY_BYTES_MAX):
            yield entries[start:at]
            start, size = at, 0
        size += len(entry[2])
    if start < len(entries):
        yield entries[start:]


def runs_of(entries: Sequence[Entry]) -> list[Run]:
    """Return messages as runs of those that are adjacent."""
    messages = [entry[2] for entry in entries]
    data, ends = b"".join(messages), tuple(accumulate(map(len, messages)))
    runs: list[Run] = []
    low, count = 0, len(entries)
    first, offset, *_ = entries[0]
    for at in range(1, count):
        position = entries[at][0]
        if position - first != at - low:
            runs.append(Run(first, ends, low, at, data, offset))
            first, offset, low = position, entries[at][1], at
    runs.append(Run(first, ends, low, count, data, offset))
    return runs
