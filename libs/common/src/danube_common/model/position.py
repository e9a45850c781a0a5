"""Positions: a message's place in its bundle as one integer, increasing within a topic.

A position packs (log sequence, section, index) into 63 bits, so it compares, travels in a varint,
and serves v0.2 clients as the delivery tag they echo in Ack. Positions of one section are
consecutive integers.
"""

from __future__ import annotations

SECTION_BITS = 12
INDEX_BITS = 14
SECTIONS_PER_FRAME_MAX = 1 << SECTION_BITS
MESSAGES_PER_SECTION_MAX = 1 << INDEX_BITS
SEQUENCE_MAX = (1 << (63 - SECTION_BITS - INDEX_BITS)) - 1

BEFORE_ALL = 0
"""Lower than every message's position (log sequences count from 1)."""

_SHIFT = SECTION_BITS + INDEX_BITS


def position_of(sequence: int, section: int, index: int) -> int:
    """Pack sequence, section and index, which must be in range. Sections and indexes count from 0."""
    return sequence << _SHIFT | section << INDEX_BITS | index


def sequence_of(position: int) -> int:
    """Return the log sequence of the frame that holds ``position``."""
    return position >> _SHIFT


def section_of(position: int) -> int:
    """Return the number of the section in the frame."""
    return position >> INDEX_BITS & (SECTIONS_PER_FRAME_MAX - 1)


def index_of(position: int) -> int:
    """Return the number of the message in the section."""
    return position & (MESSAGES_PER_SECTION_MAX - 1)


def end_of_sequence(sequence: int) -> int:
    """Return the greatest position that a message of frame ``sequence`` can have."""
    return (sequence + 1 << _SHIFT) - 1
