"""Ranks instances for a key: the same order in every process, with the first places spread over the keys."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def ranked(key: str, instance_ids: Iterable[str]) -> list[str]:
    """The instances, best first (rendezvous hashing): without an instance, only its own keys move."""

    def weight(instance_id: str) -> bytes:
        return blake2b(f"{key}\0{instance_id}".encode(), digest_size=8).digest()

    return sorted(instance_ids, key=weight)
