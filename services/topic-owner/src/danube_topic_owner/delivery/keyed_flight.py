"""The messages of a key-shared subscription that were delivered and are not acknowledged. Pure.

The messages of a consumer lie apart in the log, so that they are kept one by one, with their keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from danube_topic_owner.delivery.consumer import Consumer
from danube_topic_owner.delivery.in_flight import Held


@dataclass(slots=True, eq=False)
class Key:
    """A key with messages that are not settled.

    All positions in flight are lower than those in ``queue``, and these are lower than those in a lane; all
    ascend.

    Attributes:
        owner: id of the consumer that has what is in flight, or had it last.
        lane: of ``owner``, if the consumers are the same as when it was found.
        in_flight: positions in the order of delivery, which is ascending.
        queue: what waits for something of the key itself.
        laned: how many messages wait in the lane of ``owner``.
        failed: a heap of positions that wait in `Retries`; some may be settled meanwhile.
        wakes_at: when it is looked at again because a message that failed is due.
        tried: position of the message that was delivered last of those that failed.
    """

    name: bytes
    owner: int = 0
    lane: deque[Entry] | None = None
    in_flight: dict[int, None] = field(default_factory=dict)
    queue: deque[Entry] = field(default_factory=deque)
    laned: int = 0
    failed: list[int] = field(default_factory=list)
    wakes_at: float = -inf
    tried: int = 0

    @property
    def is_tried(self) -> bool:
        """Whether a message that failed before is in flight: nothing follows it until it is settled."""
        return bool(self.tried) and self.tried in self.in_flight

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known of it."""
        return not (self.in_flight or self.queue or self.laned or self.failed)


Entry = tuple[int, int, bytes, Key, bool]
"""Position, its distance to the offset in the topic, message, key, and whether it was delivered before."""


@dataclass(slots=True, eq=False)
class Sent:
    """What is left of the messages that a consumer got in one delivery, all for the first time or all again.

    ``number`` is the delivery's in the present session, or 0 if an earlier session delivered it.
    """

    consumer: Consumer
    number: int
    again: bool
    entries: dict[int, Entry]
    messages: int
    bytes: int


class KeyedFlight:
    """Messages in flight by position, and what each consumer has of them."""

    def __init__(self) -> None:
        self._sent: dict[int, Sent] = {}
        """By position."""
        self._of: dict[int, dict[Sent, None]] = {}
        """By consumer id, in the order of delivery."""

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, consumer: Consumer, number: int, entries: Iterable[Entry], *, again: bool) -> None:
        """Note what was sent to a consumer in delivery ``number``."""
        held = {entry[0]: entry for entry in entries}
        if not held:
            return
        sent = Sent(consumer, number, again, held, len(held), sum([len(entry[2]) for entry in held.values()]))
        self._sent.update(dict.fromkeys(sent.entries, sent))
        self._of.setdefault(consumer.consumer_id, {})[sent] = None
        if not consumer.unacked:
            consumer.progress.begin()
        consumer.unacked += len(held)
        consumer.unacked_bytes += sent.bytes

    def remove(self, spans: Iterable[tuple[int, int]], *, answered: bool = False) -> list[Entry]:
        """Remove and return the messages within spans of positions that are in flight, in this order.

        ``answered``: because their consumers acknowledged them, positively or negatively.
        """
        removed: list[Entry] = []
        known, pop = self._sent, self._sent.pop
        sizes: dict[Sent, int] = {}
        for first, last in spans:
            positions: Iterable[int] = range(first, last + 1)
            if last - first >= len(known):
                positions = sorted([position for position in known if first <= position <= last])
            for position in positions:
                if (sent := pop(position, None)) is not None:
                    entry = sent.entries.pop(position)
                    sizes[sent] = sizes.get(sent, 0) + len(entry[2])
                    removed.append(entry)
        for sent, size in sizes.items():
            left = len(sent.entries)
            consumer = sent.consumer
            consumer.unacked -= sent.messages - left
            consumer.unacked_bytes -= size
            sent.messages = left
            sent.bytes -= size
            if answered:
                consumer.progress.acked(0 if sent.again else sent.number)
            if not left:
                del self._of[consumer.consumer_id][sent]
        return removed

    def held_by(self, consumer: Consumer) -> list[Held]:
        """Return what a consumer has, in the order of delivery."""
        sents = self._of.get(consumer.consumer_id, ())
        return sorted(Held(sent.number, position, position) for sent in sents for position in sent.entries)

    def take_back(self, consumer: Consumer, *, received: int | None) -> list[Entry]:
        """Remove and return what was sent in a consumer's session, or only what came after ``received``.

        In ascending order.
        """
        sents = self._of.pop(consumer.consumer_id, {})
        back: list[Entry] = []
        for sent in sents:
            if received is not None and sent.number <= received:
                sent.number = 0
                self._of.setdefault(consumer.consumer_id, {})[sent] = None
                continue
            for position in sent.entries:
                del self._sent[position]
            consumer.unacked -= len(sent.entries)
            consumer.unacked_bytes -= sent.bytes
            back += sent.entries.values()
        return sorted(back)

    def clear(self) -> None:
        """Forget everything."""
        for sents in self._of.values():
            for sent in sents:
                sent.consumer.unacked = sent.consumer.unacked_bytes = 0
        self._sent.clear()
        self._of.clear()
