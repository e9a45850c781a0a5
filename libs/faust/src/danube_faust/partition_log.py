"""The messages of one partition that a worker has received and not committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from danube_client import Message


class PartitionLog:
    """Gives messages in order, and gives those that are not committed again after a rewind.

    A position is where a message lies in its partition; positions grow, with gaps. The offset that Faust
    commits is the position of a message and one.

    Attributes:
        end: what follows the last message; 0 before the first one.
    """

    def __init__(self) -> None:
        self.end = 0
        self._read: deque[Message] = deque()
        self._unread: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._read) + len(self._unread)

    @property
    def unread(self) -> int:
        """How many messages were not taken yet."""
        return len(self._unread)

    def extend(self, messages: Sequence[Message]) -> None:
        """Add messages, but for those that are here already and were delivered again."""
        for message in messages:
            if message.position >= self.end:
                self._unread.append(message)
                self.end = message.position + 1

    def take(self, count: int) -> list[Message]:
        """Return at most so many messages that were not taken yet."""
        taken = [self._unread.popleft() for _ in range(min(count, len(self._unread)))]
        self._read.extend(taken)
        return taken

    def rewind(self) -> int | None:
        """Give everything again that is not committed; return its position, or None if nothing is known."""
        while self._read:
            self._unread.appendleft(self._read.pop())
        if self._unread:
            return self._unread[0].position
        return self.end or None

    def committable(self, is_acked: Callable[[int], bool]) -> int | None:
        """Return the offset before which everything is acknowledged; None if the first message is not."""
        offset = None
        for message in self._read:
            if not is_acked(message.position):
                break
            offset = message.position + 1
        return offset

    def commit(self, offset: int) -> Message | None:
        """Forget the messages before an offset; return the last of them."""
        last = None
        while self._read and self._read[0].position < offset:
            last = self._read.popleft()
        return last

    def clear(self) -> None:
        """Forget everything: another worker has the partition, or the reading goes on elsewhere."""
        self._read.clear()
        self._unread.clear()
        self.end = 0
