"""Readers that refuse messages and forget others, by rules that anybody can look up. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

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


@dataclass(slots=True)
class Answers:
    """What the readers of one subscription said, and what they saw beside it.

    Attributes:
        acknowledged: messages.
        disordered: messages that came for the first time after a later one of their key.
        forgotten: messages of which the platform told fewer failures than before.
    """

    acknowledged: set[Receipt] = field(default_factory=set)
    disordered: list[Receipt] = field(default_factory=list)
    forgotten: list[Receipt] = field(default_factory=list)
    _times: Counter[Receipt] = field(default_factory=Counter)
    _failures: dict[Receipt, int] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def answer(self, got: Receipt, failures: int) -> Answer:
        """Note a message of which the platform says how often it failed, and return what to say to it."""
        self._times[got] += 1
        if self._times[got] == 1:
            key, number = key_of(got), got[1]
            if number < self._last.get(key, 0):
                self.disordered.append(got)
            self._last[key] = max(number, self._last.get(key, 0))
        if failures < self._failures.get(got, 0):
            self.forgotten.append(got)
        self._failures[got] = max(failures, self._failures.get(got, 0))
        answer = answer_to(got, self._times[got])
        if answer is Answer.ACK:
            self.acknowledged.add(got)
        return answer
