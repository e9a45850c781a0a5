"""Collects messages for the next frames of a bundle. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from danube_common.model.position import MESSAGES_PER_SECTION_MAX, SECTIONS_PER_FRAME_MAX

FRAME_BYTES_TARGET = 768 * 1024
"""A frame is closed at this size; one larger message stands alone."""
FRAME_MESSAGES_MAX = MESSAGES_PER_SECTION_MAX

Token = TypeVar("Token")


class _Frame(Generic[Token]):
    """A frame that is being filled."""

    __slots__ = ("bytes", "messages", "sections", "tokens")

    def __init__(self) -> None:
        self.sections: dict[int, list[bytes]] = {}
        self.tokens: list[Token] = []
        self.messages = 0
        self.bytes = 0

    def has_room(self, topic_id: int, size: int) -> bool:
        return (
            self.bytes + size <= FRAME_BYTES_TARGET
            and self.messages < FRAME_MESSAGES_MAX
            and (topic_id in self.sections or len(self.sections) < SECTIONS_PER_FRAME_MAX - 1)
        ) or not self.messages


class Batch(Generic[Token]):
    """The frames to come, filled in order of arrival.

    A token stands for the caller, if one waits; it is returned with the frame that holds the message.
    """

    def __init__(self) -> None:
        self._frames: deque[_Frame[Token]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, topic_id: int, message: bytes, token: Token | None = None) -> None:
        """Append a message; ``token`` comes back with the frame that takes it."""
        size = len(message)
        if not self._frames or not self._frames[-1].has_room(topic_id, size):
            self._frames.append(_Frame())
        frame = self._frames[-1]
        section = frame.sections.get(topic_id)
        if section is None:
            section = frame.sections[topic_id] = []
        section.append(message)
        if token is not None:
            frame.tokens.append(token)
        frame.messages += 1
        frame.bytes += size
        self.bytes += size

    def take(self) -> tuple[list[tuple[int, list[bytes]]], list[Token]]:
        """Return the sections of the next frame, by topic in order of first arrival, and their tokens."""
        if not self._frames:
            return [], []
        frame = self._frames.popleft()
        self.bytes -= frame.bytes
        return list(frame.sections.items()), frame.tokens
