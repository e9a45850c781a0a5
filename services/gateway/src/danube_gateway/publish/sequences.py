"""The numbers of a producer's messages in one partition, and the window of its stream. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from danube_common.errors import InvalidInput

SEQUENCE_MAX: Final = (1 << 63) - 1


class Sequences:
    """Which batches of a partition are new, and up to where all are answered.

    Args:
        last_stored: the number of the last message that an earlier stream of the producer stored.
    """

    def __init__(self, last_stored: int = 0) -> None:
        self._last_stored = last_stored
        self._taken = 0
        self._open: deque[int] = deque()
        """The last number of each batch that is not answered, ascending."""
        self._answered: set[int] = set()
        """Of these, the ones that are answered behind one that is not."""

    def take(self, first: int, messages: int) -> bool:
        """Take a batch; return whether it is new: False if it was stored before. Raises InvalidInput."""
        last = first + messages - 1
        if not 0 < first <= last <= SEQUENCE_MAX:
            raise InvalidInput(f"{messages} messages from the sequence {first} on cannot be")
        if first <= self._taken:
            raise InvalidInput(
                f"a batch begins with the sequence {first}, and one up to {self._taken} came before it"
            )
        if first <= self._last_stored < last:
            raise InvalidInput(
                f"the batch from {first} to {last} was stored up to {self._last_stored}: a batch is sent "
                "again as it was"
            )
        self._taken = last
        self._open.append(last)
        return first > self._last_stored

    def answer(self, last: int) -> int:
        """Note that the batch up to ``last`` is answered; return up to where all are answered."""
        self._answered.add(last)
        through = 0
        while self._open and self._open[0] in self._answered:
            through = self._open.popleft()
            self._answered.remove(through)
        return through


class Window:
    """What a stream has sent and not been answered, in messages and bytes."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.messages = 0
        self.bytes = 0

    def has_room(self, messages: int, size: int) -> bool:
        """Return whether a batch fits; one batch always does."""
        return not self.messages or (
            self.messages + messages <= self.messages_max and self.bytes + size <= self.bytes_max
        )

    def take(self, messages: int, size: int) -> None:
        """Note a batch that came."""
        self.messages += messages
        self.bytes += size

    def release(self, messages: int, size: int) -> None:
        """Note that a batch is answered."""
        self.messages -= messages
        self.bytes -= size
