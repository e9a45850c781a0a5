"""Readers that refuse messages and forget others, by rules that anybody can look up. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from danube_harness.traffic.history import Receipt

KEYS = 12
"""Keys of each writer."""
REDELIVERIES_MAX = 6
"""Of the failure policy: more than a message fails that is not poison, whatever faults add."""
POISON, REFUSED, FORGOTTEN = (211, 11), (37, 3), (101, 5)
"""(n, r): every message whose number leaves r when divided by n is refused each time, is refused the first
time, or gets no answer the first time."""


class Answer(Enum):
    """What a reader says to a message."""

    ACK = "ack"
    NACK = "nack"
    NOTHING = "nothing"


def key_of(receipt: Receipt) -> str:
    """The key under which a message is written."""
    writer, number = receipt
    return f"{writer} {number % KEYS}"


def answer_to(receipt: Receipt, times: int) -> Answer:
    """The answer to a message that comes for the ``times``-th time."""
    number = receipt[1]
    if _is(number, POISON) or (times == 1 and _is(number, REFUSED)):
        return Answer.NACK
    return Answer.NOTHING if times == 1 and _is(number, FORGOTTEN) else Answer.ACK


def _is(number: int, rule: tuple[int, int]) -> bool:
    return number % rule[0] == rule[1]


class _Told(NamedTuple):
    """A count that came with a message: on which stream, and how many had been opened then."""

    failures: int
    stream: int
    opened: int


@dataclass(slots=True)
class Answers:
    """What the readers of one subscription said, and what they saw beside it.

    Attributes:
        acknowledged: messages.
        disordered: messages that came for the first time after a later one of their key.
        forgotten: messages that came with fewer failures than the platform had told before it sent them.
    """

    acknowledged: set[Receipt] = field(default_factory=set)
    disordered: list[Receipt] = field(default_factory=list)
    forgotten: list[Receipt] = field(default_factory=list)
    _times: Counter[Receipt] = field(default_factory=Counter)
    _told: dict[Receipt, list[_Told]] = field(default_factory=dict)
    _opened: int = 0
    _last: dict[str, int] = field(default_factory=dict)

    def opens(self) -> int:
        """Note that a reader is about to subscribe, and return the number of its stream."""
        self._opened += 1
        return self._opened

    def answer(self, got: Receipt, failures: int, stream: int) -> Answer:
        """Note a message of which the platform says how often it failed, and return what to say to it.

        A count is older than one that was told elsewhere if it waited in another reader's client meanwhile;
        not if the reader subscribed after that was told.
        """
        self._times[got] += 1
        if self._times[got] == 1:
            key, number = key_of(got), got[1]
            if number < self._last.get(key, 0):
                self.disordered.append(got)
            self._last[key] = max(number, self._last.get(key, 0))
        told = self._told.setdefault(got, [])
        if any(failures < each.failures and (each.stream == stream or each.opened < stream) for each in told):
            self.forgotten.append(got)
        told.append(_Told(failures, stream, self._opened))
        answer = answer_to(got, self._times[got])
        if answer is Answer.ACK:
            self.acknowledged.add(got)
        return answer
