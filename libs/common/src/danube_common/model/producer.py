"""Producers: the access mode."""

from __future__ import annotations

from enum import IntEnum


class AccessMode(IntEnum):
    """Whether a topic accepts other producers beside this one. The numbers are those of the wire."""

    SHARED = 0
    EXCLUSIVE = 1
