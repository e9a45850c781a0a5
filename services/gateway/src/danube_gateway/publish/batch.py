"""Collects messages for the next frame of a bundle. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from danube_common.model.position import MESSAGES_PER_SECTION_MAX, SECTIONS_PER_FRAME_MAX

FRAME_BYTES_TARGET = 768 * 1024
"""A frame is closed at this size; one larger message stands alone."""
FRAME_MESSAGES_MAX = MESSAGES_PER_SECTION_MAX

Token = TypeVar("Token")


class Batch(Generic[Token]):
    """A queue of (topic, message, token). Frames take from it in order of arrival per topic.

    A token stands for the waiting caller; it is returned with the frame that holds the message.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[int, bytes, Token]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, topic_id: int, message: bytes, token: Token) -> None:
        """Append a message; ``token`` comes back with the frame that takes it."""
        self._queue.append((topic_id, message, token))
        self.bytes += len(message)

    def take(self) -> tuple[list[tuple[int, list[bytes]]], list[Token]]:
        """Return the sections of the next frame, by topic in order of first arrival, and their tokens."""
        sections: dict[int, list[bytes]] = {}
        tokens: list[Token] = []
        size = 0
        queue = self._queue
        while queue and len(tokens) < FRAME_MESSAGES_MAX:
            topic_id, message, token = queue[0]
            if tokens and size + len(message) > FRAME_BYTES_TARGET:
                break
            if topic_id not in sections and len(sections) >= SECTIONS_PER_FRAME_MAX - 1:
                break
            queue.popleft()
            sections.setdefault(topic_id, []).append(message)
            tokens.append(token)
            size += len(message)
        self.bytes -= size
        return list(sections.items()), tokens
