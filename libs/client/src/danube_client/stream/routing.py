"""Which partition a message goes to: by its key, as the clients of the current generation do, or in turn."""

from __future__ import annotations

from typing import Final

FNV_OFFSET: Final = 0xCBF29CE484222325
FNV_PRIME: Final = 0x100000001B3
KEYS_MAX: Final = 65536
"""So many hashes of keys are kept."""


def fnv1a_64(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash."""
    value = FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value


class Router:
    """Chooses the partition of each message of a producer."""

    def __init__(self) -> None:
        self._turn = -1
        self._hashes: dict[str, int] = {}

    def partition(self, key: str | None, partitions: int) -> int:
        """Return the index of one of so many partitions; messages without a key go to each in turn."""
        if partitions == 1:
            return 0
        if key is None:
            self._turn = (self._turn + 1) % partitions
            return self._turn
        value = self._hashes.get(key)
        if value is None:
            if len(self._hashes) >= KEYS_MAX:
                self._hashes.clear()
            value = self._hashes[key] = fnv1a_64(key.encode())
        return value % partitions
